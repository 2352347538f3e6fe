import { Panel } from "../../components/Panel";
import { words } from "../../lib/format";
import type { Field } from "../../lib/policy";
import classes from "./Policy.module.css";
import { PolicyField } from "./PolicyField";
import type { Draft } from "./usePolicyDraft";

const ABOUT: Record<string, [title: string, text: string]> = {
  slo: ["Objective", "What requests are promised. Forecasts and canaries are judged by it."],
  autonomy: [
    "Autonomy",
    "How far the controller may go with each knob: off, observe (recorded only), advise and approve (a person decides), auto.",
  ],
  guardrails: ["Guardrails", "What bounds every change, whoever proposes it."],
  objective: ["When to act", "What calls for a change, and what counts as better."],
  quality: ["Quality", "What answers may lose by coarser weights or pruning."],
  rollout: ["Rollout", "How a change is tried and watched. Short windows see less."],
  forecast: ["Forecast", "How far ahead to look, and how much must be known for it."],
  exploration: [
    "Exploration",
    "What the controller may try by itself, on one node of a calm pool, under a lease. It promotes nothing.",
  ],
};

/** One part of the policy, its fields as the API describes them. */
export function PolicySection(props: { name: string; fields: Field[]; draft: Draft; error: Error | null }) {
  const { name, fields, draft, error } = props;
  const [title, text] = ABOUT[name] ?? [words(name), ""];
  return (
    <Panel title={title}>
      {text && <p className={classes.about}>{text}</p>}
      <div className={classes.fields} data-dense={name === "autonomy" || undefined}>
        {fields.map((field) => (
          <PolicyField key={field.path} field={field} draft={draft} error={error} />
        ))}
      </div>
    </Panel>
  );
}
