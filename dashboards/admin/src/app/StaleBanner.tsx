import { useSystem } from "../api/queries";
import { WarnIcon } from "../components/icons";
import { clock } from "../lib/format";
import { useLive } from "./live";
import classes from "./Shell.module.css";
import { useNow } from "./useNow";

/** Two polls missed: what stands on the page may no longer be true. */
const STALE_MS = 35_000;

/** Says since when the figures are old, when neither stream nor polling gets through. */
export function StaleBanner() {
  const system = useSystem();
  const { connected } = useLive();
  const now = useNow();
  const old = system.dataUpdatedAt > 0 && now - system.dataUpdatedAt > STALE_MS;
  const failing = system.isError && system.dataUpdatedAt > 0;
  const shown = !connected && (old || failing);
  return (
    <div role="status" aria-live="polite">
      {shown && (
        <p className={classes.banner}>
          <WarnIcon /> Stale since {clock(system.dataUpdatedAt)}: the control plane does not answer. The page keeps
          trying.
        </p>
      )}
    </div>
  );
}
