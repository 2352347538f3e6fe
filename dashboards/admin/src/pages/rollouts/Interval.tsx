import type { Measurement } from "../../api/types";
import { verdictLook } from "../../components/tones";
import { effect } from "../../lib/format";
import { place } from "../../lib/interval";
import classes from "./Rollouts.module.css";

/** Effect and its interval on a log scale around "no change", with the margin from which harm counts. */
export function Interval({ measurement }: { measurement: Measurement }) {
  const { effect_ratio, ci_low, ci_high, margin, verdict } = measurement;
  if (effect_ratio === null || ci_low === null || ci_high === null) return null;
  const words = `Effect ${effect(effect_ratio)}, interval ${effect(ci_low)} to ${effect(ci_high)}`;
  const left = place(ci_low);
  return (
    <span
      className={classes.interval}
      data-tone={verdictLook(verdict).tone}
      role="img"
      aria-label={words}
      title={words}
    >
      <span className={classes.axis} />
      <span className={classes.zero} style={{ left: `${place(1)}%` }} />
      {margin !== null && <span className={classes.margin} style={{ left: `${place(1 + margin)}%` }} />}
      <span className={classes.range} style={{ left: `${left}%`, width: `${Math.max(0, place(ci_high) - left)}%` }} />
      <span className={classes.point} style={{ left: `${place(effect_ratio)}%` }} />
    </span>
  );
}
