import type { Analysis, Measurement } from "../../api/types";
import { Panel } from "../../components/Panel";
import { ScrollX } from "../../components/ScrollX";
import { Empty } from "../../components/States";
import { Tag } from "../../components/Tag";
import { verdictLook } from "../../components/tones";
import { When } from "../../components/When";
import { effect, number, percent, seconds, words } from "../../lib/format";
import { hasOwnScale, Interval } from "./Interval";
import classes from "./Rollouts.module.css";

/** A metric's own unit, read off its name: seconds, shares, or plain numbers. */
function reading(metric: string, value: number | null): string {
  if (/(ttft|itl|e2e|latency|_s$)/.test(metric)) return seconds(value);
  return /(rate|ratio|share|loss)/.test(metric) ? percent(value) : number(value);
}

/** The latest comparison of canary and baseline, metric by metric. */
export function AnalysisPanel({ analyses }: { analyses: Analysis[] }) {
  const [latest] = analyses;
  if (!latest)
    return (
      <Panel title="Canary against baseline">
        <Empty title="No verdict yet">
          It follows once the canary has run the new settings for the policy's windows.
        </Empty>
      </Panel>
    );
  return (
    <Panel
      title="Canary against baseline"
      flush
      aside={
        <>
          <Tag look={verdictLook(latest.verdict)} /> <When at={latest.at} />
        </>
      }
    >
      <p className="prose" style={{ padding: "0 16px 8px" }}>
        {latest.explanation}
      </p>
      <ScrollX label="Verdicts">
        <table className="data-table">
          <thead>
            <tr>
              <th scope="col">Metric</th>
              <th scope="col">Verdict</th>
              <th scope="col" className="right">
                Canary
              </th>
              <th scope="col" className="right">
                Baseline
              </th>
              <th scope="col" className="right">
                Effect
              </th>
              <th scope="col">Interval and margin</th>
              <th scope="col" className="right">
                Samples
              </th>
            </tr>
          </thead>
          <tbody>
            {latest.measurements.map((measurement) => (
              <MeasurementRow key={measurement.metric} measurement={measurement} />
            ))}
          </tbody>
        </table>
      </ScrollX>
    </Panel>
  );
}

function MeasurementRow({ measurement }: { measurement: Measurement }) {
  const { metric, effect_ratio, margin } = measurement;
  return (
    <tr>
      <td>
        <span className="nowrap">{words(metric.replace(/_s$/, ""))}</span>
        <span className={classes.detail}>{measurement.detail}</span>
      </td>
      <td>
        <Tag look={verdictLook(measurement.verdict)} />
      </td>
      <td className="right">{reading(metric, measurement.canary)}</td>
      <td className="right">{reading(metric, measurement.baseline)}</td>
      <td className="right">{effect(effect_ratio)}</td>
      <td>
        <Interval measurement={measurement} />
        {margin !== null && (
          <span className="small muted">
            {measurement.advisory ? "only shown, a change from " : "harm counts from "}
            {hasOwnScale(measurement) ? reading(metric, margin) : effect(1 + margin)}
          </span>
        )}
      </td>
      <td className="right">
        {number(measurement.samples_canary)} / {number(measurement.samples_baseline)}
      </td>
    </tr>
  );
}
