import type { Pool } from "../../api/types";
import { knobText } from "../../lib/settings";
import classes from "./FleetPage.module.css";

export function SettingsInForce({ pool }: { pool: Pool }) {
  const revision = pool.current_revision;
  if (!revision) return null;
  return (
    <div>
      <p className={classes.label}>Settings in force · revision {revision.number}</p>
      <dl className={classes.settings}>
        {Object.entries(revision.settings).map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{knobText(value)}</dd>
          </div>
        ))}
      </dl>
    </div>
  );
}
