import type { ForecastQuality } from "../../api/types";
import { Panel } from "../../components/Panel";
import { ScrollX } from "../../components/ScrollX";
import { Empty } from "../../components/States";
import { coverageWords, type Horizon, skill } from "../../lib/forecasts";
import { duration, number, percent } from "../../lib/format";
import classes from "./Forecasts.module.css";
import { MeritLine } from "./MeritLine";

type Format = (value: number | null | undefined) => string;

/** Per horizon: whether the band holds what comes, and whether the forecast is better than taking the last value. */
export function HorizonTable({ quality, format }: { quality: ForecastQuality; format: Format }) {
  return (
    <Panel flush title="How right they were" aside={<span>the band should hold four in five</span>}>
      {quality.horizons.length === 0 ? (
        <div className="inset">
          <Empty title="Nothing to score yet">
            A forecast is scored once the moment that it was of has been measured: a minute after the first one.
          </Empty>
        </div>
      ) : (
        <ScrollX label="Quality per horizon">
          <table className="data-table">
            <thead>
              <tr>
                <th scope="col">Ahead</th>
                <th scope="col">Within the band</th>
                <th scope="col" className="right">
                  Error
                </th>
                <th scope="col" className="right">
                  Last value's error
                </th>
                <th scope="col" className="right">
                  Against it
                </th>
                <th scope="col" className="right">
                  Bias
                </th>
                <th scope="col" className="right">
                  Scored
                </th>
              </tr>
            </thead>
            <tbody>
              {quality.horizons.map((horizon) => (
                <Row key={horizon.horizon_s} horizon={horizon} format={format} />
              ))}
            </tbody>
          </table>
        </ScrollX>
      )}
      <MeritLine quality={quality} />
      <p className="inset small muted">
        Errors are means of absolute ones. Forecasts overlap, so many of them say less than as many independent ones.
        Horizons beyond what the policy looks ahead are not forecast.
        {quality.metric !== "offered_rps" &&
          " Latencies are foreseen under the settings in force: a change in between counts against them."}
      </p>
    </Panel>
  );
}

function Row({ horizon, format }: { horizon: Horizon; format: Format }) {
  const gain = skill(horizon);
  return (
    <tr>
      <td className="nowrap">{duration(horizon.horizon_s)}</td>
      <td className="nowrap">
        <span className="num">{percent(horizon.coverage_80, 0)}</span>
        <span className={classes.track} aria-hidden="true">
          <span className={classes.fill} style={{ width: `${Math.round(100 * horizon.coverage_80)}%` }} />
          <span className={classes.nominal} />
        </span>{" "}
        <span className="small muted">{coverageWords(horizon.coverage_80, horizon.scored)}</span>
      </td>
      <td className="right">{format(horizon.error)}</td>
      <td className="right">{format(horizon.last_value_error)}</td>
      <td className="right">
        {gain === null ? (
          "–"
        ) : (
          <span className={gain >= 0 ? classes.better : classes.worse}>
            {percent(Math.abs(gain), 0)} {gain >= 0 ? "better" : "worse"}
          </span>
        )}
      </td>
      <td className="right">
        {horizon.bias > 0 ? "+" : horizon.bias < 0 ? "−" : ""}
        {format(Math.abs(horizon.bias))}
      </td>
      <td className="right">{number(horizon.scored)}</td>
    </tr>
  );
}
