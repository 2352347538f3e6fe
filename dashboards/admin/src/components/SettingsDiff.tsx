import type { Changes, Knob } from "../api/types";
import { knobText, withUnit } from "../lib/settings";
import { ArrowIcon } from "./icons";
import classes from "./SettingsDiff.module.css";

/** What changes, knob by knob, before and after. */
export function SettingsDiff({ changes, knobs = [] }: { changes: Changes; knobs?: Knob[] }) {
  const entries = Object.entries(changes);
  if (entries.length === 0) return <p className="muted">No knob changes.</p>;
  const known = new Map(knobs.map((knob) => [knob.name, knob]));
  return (
    <ul className={classes.diff}>
      {entries.map(([name, [from, to]]) => (
        <li key={name}>
          <span className={`mono ${classes.knob}`}>{name}</span>
          <del className={classes.from}>
            <span className="visually-hidden">from </span>
            {knobText(from)}
          </del>
          <ArrowIcon size={13} className={classes.arrow ?? ""} />
          <ins className={classes.to}>
            <span className="visually-hidden">to </span>
            {withUnit(to, known.get(name))}
          </ins>
          {known.get(name)?.changes_numerics && <span className="small muted">changes numerics</span>}
        </li>
      ))}
    </ul>
  );
}
