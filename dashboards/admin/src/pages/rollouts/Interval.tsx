import type { Measurement } from "../../api/types";
import { verdictLook } from "../../components/tones";
import { effect, number } from "../../lib/format";
import { place } from "../../lib/interval";
import classes from "./Rollouts.module.css";

/** A distance from full precision, which has no ratio to a baseline of 0: interval and margin are of the figure itself. */
export function hasOwnScale({ metric }: Measurement): boolean {
  return metric.startsWith("served_") || metric === "answer_mix";
}

/** Effect and its interval on a log scale around "no change", with the margin from which harm counts. */
export function Interval({ measurement }: { measurement: Measurement }) {
  const { effect_ratio, ci_low, ci_high, margin, verdict } = measurement;
  if (hasOwnScale(measurement)) return <Distance measurement={measurement} />;
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

/** From 0 on a linear scale, with the margin in its middle where the figure allows that. */
function Distance({ measurement }: { measurement: Measurement }) {
  const { canary, ci_low, ci_high, margin, verdict } = measurement;
  if (canary === null || ci_low === null || ci_high === null || margin === null) return null;
  const widest = Math.max(2 * margin, 1.1 * ci_high);
  const at = (value: number) => (100 * value) / widest;
  const words = `${number(canary)}, interval ${number(ci_low)} to ${number(ci_high)}, allowed is ${number(margin)}`;
  return (
    <span
      className={classes.interval}
      data-tone={verdictLook(verdict).tone}
      role="img"
      aria-label={words}
      title={words}
    >
      <span className={classes.axis} />
      <span className={classes.zero} style={{ left: "0%" }} />
      <span className={classes.margin} style={{ left: `${at(margin)}%` }} />
      <span className={classes.range} style={{ left: `${at(ci_low)}%`, width: `${at(ci_high) - at(ci_low)}%` }} />
      <span className={classes.point} style={{ left: `${at(canary)}%` }} />
    </span>
  );
}
