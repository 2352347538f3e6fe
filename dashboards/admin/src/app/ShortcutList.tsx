import { PLACES } from "./places";
import classes from "./Shell.module.css";

const OTHERS: [string[], string][] = [
  [["Ctrl", "K"], "Search pools, nodes, decisions and rollouts (⌘K on a Mac)"],
  [["/"], "The same"],
  [["t"], "Switch between light and dark"],
  [["?"], "This list"],
  [["Esc"], "Close what is open"],
];

export function ShortcutList() {
  const rows: [string[], string][] = [
    ...PLACES.map((place): [string[], string] => [["g", place.key], place.label]),
    ...OTHERS,
  ];
  return (
    <dl className={classes.keys}>
      {rows.map(([combination, meaning]) => (
        <div key={meaning} style={{ display: "contents" }}>
          <dt>
            {combination.map((key) => (
              <kbd key={key} className={classes.key}>
                {key}
              </kbd>
            ))}
          </dt>
          <dd>{meaning}</dd>
        </div>
      ))}
    </dl>
  );
}
