import { ArrowIcon } from "../../components/icons";
import { type Difference, jsonText } from "../../lib/policy";
import classes from "./Policy.module.css";

/** Values before and after; `marked` are those that somebody else has changed as well. */
export function ChangeList({ changes, marked }: { changes: Difference[]; marked?: ReadonlySet<string> }) {
  if (changes.length === 0) return null;
  return (
    <ul className={classes.changes}>
      {changes.map(({ path, from, to }) => (
        <li key={path} data-marked={marked?.has(path) || undefined}>
          <span className="mono small">{path}</span>
          <span>
            <del>
              <span className="visually-hidden">from </span>
              {jsonText(from)}
            </del>{" "}
            <ArrowIcon size={12} />{" "}
            <ins>
              <span className="visually-hidden">to </span>
              {jsonText(to)}
            </ins>
          </span>
          {marked?.has(path) && <span className="small">changed by both of you</span>}
        </li>
      ))}
    </ul>
  );
}
