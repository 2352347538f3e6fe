import type { Constraint } from "../../api/types";
import { Chip } from "../../components/Tag";
import type { Tone } from "../../components/tones";
import { words } from "../../lib/format";
import classes from "./Decisions.module.css";

const EFFECTS: Record<string, Tone> = { blocks: "bad", bounds: "warn", advises: "info", notes: "idle" };

/** The rules that shaped a decision, with what each did to it. */
export function Constraints({ constraints }: { constraints: Constraint[] }) {
  if (constraints.length === 0) return <p className="muted">No guardrail stood in the way.</p>;
  return (
    <ul className={classes.constraints}>
      {constraints.map((constraint) => (
        <li key={`${constraint.name}:${constraint.detail}`}>
          <span className="row">
            <strong>{words(constraint.name)}</strong>
            <Chip tone={EFFECTS[constraint.effect] ?? "idle"}>{constraint.effect}</Chip>
          </span>
          <span>{constraint.detail}</span>
        </li>
      ))}
    </ul>
  );
}
