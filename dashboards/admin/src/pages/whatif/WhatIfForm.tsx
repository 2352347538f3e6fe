import { NativeSelect } from "@mantine/core";
import { fieldProblem } from "../../api/problem";
import { useNodes } from "../../api/queries";
import type { Knob, KnobValue, Pool, WhatIf } from "../../api/types";
import { SlideField } from "../../components/SlideField";
import { number } from "../../lib/format";
import { ASKED, type Draft, even, LOAD, type LoadName, ladder } from "../../lib/whatIf";
import classes from "./WhatIf.module.css";

interface WhatIfFormProps {
  pool: Pool;
  knobs: Knob[];
  answer: WhatIf;
  draft: Draft;
  problems: Record<string, string>;
  error: Error | null;
  onChange: (name: string, text: string | null) => void;
}

/** Knobs and load, filled in with what is in force and planned for. What is put back to that is no question any more. */
export function WhatIfForm({ pool, knobs, answer, draft, problems, error, onChange }: WhatIfFormProps) {
  const limits = useLimits(pool.id);
  const inForce = answer.now.settings as Record<string, KnobValue>;
  const set = (name: string, text: string, asItIs: string) => onChange(name, text === asItIs ? null : text);
  return (
    <form className={classes.form} onSubmit={(event) => event.preventDefault()}>
      <h3 className={classes.group}>Settings</h3>
      {ASKED.map((name) => {
        const knob = knobs.find((each) => each.name === name);
        if (!knob) return null;
        const now = String(inForce[name]);
        const shown = draft[name] ?? now;
        const wrong = problems[name] ?? fieldProblem(error, `settings.${name}`);
        if (knob.kind === "choice")
          return (
            <NativeSelect
              key={name}
              size="xs"
              name={name}
              label={<span className="mono">{name}</span>}
              value={shown}
              data={choicesOf(knob, limits, now)}
              error={wrong}
              onChange={(event) => set(name, event.currentTarget.value, now)}
            />
          );
        return (
          <SlideField
            key={name}
            name={name}
            label={<span className="mono">{name}</span>}
            value={shown}
            steps={stepsOf(knob, limits)}
            unit={knob.unit === "ratio" || knob.unit === "sequences" ? "" : knob.unit}
            whole={knob.kind === "int"}
            error={wrong}
            onChange={(text) => set(name, text, now)}
          />
        );
      })}
      <h3 className={classes.group}>Load of the whole pool</h3>
      {LOAD.map(({ name, label, unit }) => (
        <SlideField
          key={name}
          name={name}
          label={label}
          value={draft[name] ?? rounded(answer.load[name])}
          steps={loadSteps(name, answer)}
          unit={unit}
          error={problems[name] ?? fieldProblem(error, name)}
          onChange={(text) => set(name, text, rounded(answer.load[name]))}
        />
      ))}
      <p className="small muted">
        Filled in: {number(answer.load.planned_rps)} requests/s are planned for
        {answer.load.observed_rps !== null && `, ${number(answer.load.observed_rps)} came in the newest window`}
        {answer.load.waiting >= 1 && `, and ${number(answer.load.waiting)} wait now`}. Prompts count without what the
        prefix cache has.
      </p>
    </form>
  );
}

interface Limits {
  most: Record<string, number>;
  choices: Record<string, string[]>;
}

/** What all nodes of the pool can be set to. */
function useLimits(poolId: string): Limits {
  const nodes = useNodes(poolId).data?.items ?? [];
  const all = nodes.map(({ capabilities }) => capabilities);
  const common = (lists: string[][]) => (lists[0] ?? []).filter((each) => lists.every((list) => list.includes(each)));
  return {
    most: {
      max_batch_size: Math.min(...all.map(({ max_batch_size }) => max_batch_size)),
      max_batched_tokens: Math.min(...all.map(({ max_batched_tokens }) => max_batched_tokens)),
    },
    choices: {
      precision: common(all.map(({ precisions }) => precisions)),
      kv_precision: common(all.map(({ kv_precisions }) => kv_precisions)),
    },
  };
}

function choicesOf(knob: Knob, limits: Limits, now: string): string[] {
  const offered = limits.choices[knob.name] ?? [];
  return knob.choices.filter((choice) => choice === now || offered.includes(choice));
}

function stepsOf(knob: Knob, limits: Limits): number[] {
  const least = knob.minimum ?? 0;
  const most = Math.min(knob.maximum ?? 1, limits.most[knob.name] ?? Number.POSITIVE_INFINITY);
  return knob.kind === "int"
    ? ladder(least, most)
    : even(least, most, (most - least) / (knob.name === "batch_wait_ms" ? 50 : 14));
}

/** Up to more than either side can serve, so that the edge can be looked at. */
function loadSteps(name: LoadName, { now, then, load }: WhatIf): number[] {
  if (name !== "offered_rps") return ladder(1, 8192);
  const capacity = Math.max(now.capacity_rps.value, then?.capacity_rps.value ?? 0, load.offered_rps);
  const most = Number((1.3 * capacity).toPrecision(2));
  return even(most / 60, most, most / 60).map((step) => Number(step.toPrecision(3)));
}

const rounded = (value: number): string => String(Number(value.toPrecision(3)));
