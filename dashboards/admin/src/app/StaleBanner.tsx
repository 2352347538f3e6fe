import { Link } from "react-router";
import { useSystem } from "../api/queries";
import { SnowIcon, WarnIcon } from "../components/icons";
import { clock } from "../lib/format";
import classes from "./Shell.module.css";
import { useNow } from "./useNow";

/** A slow poll and a half: what stands on the page may no longer be true. */
const STALE_MS = 45_000;

/** Says since when the figures are old, when neither stream nor polling gets through; and that everything is frozen. */
export function StaleBanner() {
  const system = useSystem();
  const now = useNow();
  const old = system.dataUpdatedAt > 0 && now - system.dataUpdatedAt > STALE_MS;
  const failing = system.isError && system.dataUpdatedAt > 0;
  return (
    <div role="status" aria-live="polite">
      {(old || failing) && (
        <p className={classes.banner}>
          <WarnIcon /> Stale since {clock(system.dataUpdatedAt)}: the control plane does not answer. The page keeps
          trying.
        </p>
      )}
      {system.data?.frozen && (
        <p className={classes.frozen}>
          <SnowIcon /> Everything is frozen: no pool changes. {system.data.frozen.actor}: {system.data.frozen.reason}{" "}
          <Link to="/system">Lift it</Link>
        </p>
      )}
    </div>
  );
}
