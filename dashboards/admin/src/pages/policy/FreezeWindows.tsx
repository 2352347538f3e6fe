import { Button, TextInput } from "@mantine/core";
import { fieldProblem } from "../../api/problem";
import { DecimalInput } from "../../components/DecimalInput";
import { Panel } from "../../components/Panel";
import type { Document, Json } from "../../lib/policy";
import classes from "./Policy.module.css";
import type { Draft } from "./usePolicyDraft";

const NEW: Document = { cron: "0 18 * * fri", duration_s: 7200, timezone: "UTC", reason: "" };

/** Times that come back in which the pool must not change. */
export function FreezeWindows({ draft, error }: { draft: Draft; error: Error | null }) {
  const found = draft.document.freeze_windows;
  const windows = Array.isArray(found) ? (found as Document[]) : [];
  const set = (next: Document[]) => draft.set("freeze_windows", next);
  const change = (place: number, name: string, value: Json) =>
    set(windows.map((window, at) => (at === place ? { ...window, [name]: value } : window)));
  return (
    <Panel
      title="Freeze windows"
      aside={
        <Button size="compact-xs" variant="default" onClick={() => set([...windows, NEW])}>
          Add
        </Button>
      }
    >
      <p className={classes.about}>Times that come back in which the pool must not change. Rollbacks stay possible.</p>
      {windows.length === 0 && <p className="muted">None: the pool may change at any time.</p>}
      <ul className={classes.windows}>
        {windows.map((window, place) => {
          const problem = (name: string) => fieldProblem(error, `freeze_windows.${place}.${name}`);
          const text = (name: string) => ({
            size: "xs" as const,
            value: typeof window[name] === "string" ? window[name] : "",
            error: problem(name),
            onChange: (event: React.ChangeEvent<HTMLInputElement>) => change(place, name, event.currentTarget.value),
          });
          const hours = window.duration_s;
          return (
            // biome-ignore lint/suspicious/noArrayIndexKey: a window is known by its place and nothing else
            <li key={place}>
              <TextInput label="Begins (cron)" {...text("cron")} />
              <DecimalInput
                size="xs"
                label="Lasts (minutes)"
                min={1}
                value={typeof hours === "number" ? hours / 60 : ""}
                error={problem("duration_s")}
                onChange={(minutes) => change(place, "duration_s", typeof minutes === "number" ? minutes * 60 : "")}
              />
              <TextInput label="Time zone" {...text("timezone")} />
              <TextInput label="Reason" {...text("reason")} />
              <Button
                size="xs"
                variant="default"
                aria-label={`Remove freeze window ${place + 1}`}
                onClick={() => set(windows.filter((_, at) => at !== place))}
              >
                Remove
              </Button>
            </li>
          );
        })}
      </ul>
    </Panel>
  );
}
