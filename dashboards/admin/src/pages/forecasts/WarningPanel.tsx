import type { ForecastQuality } from "../../api/types";
import { Panel } from "../../components/Panel";
import { ScrollX } from "../../components/ScrollX";
import { Empty } from "../../components/States";
import { shareText, warningsOf } from "../../lib/forecasts";
import { duration, number, percent, words } from "../../lib/format";

/** How right the warnings of latency spikes have been, by setting; nothing where the API does not tell. */
export function WarningPanel({ quality }: { quality: ForecastQuality }) {
  const warnings = warningsOf(quality);
  if (warnings === null) return null;
  return (
    <Panel flush title="Warnings of spikes" aside={<span>the last 14 days</span>}>
      {warnings.length === 0 ? (
        <div className="inset">
          <Empty title="No warning yet">
            Each is judged once it is known whether a spike came; figures follow with the first.
          </Empty>
        </div>
      ) : (
        <ScrollX label="Warnings of spikes">
          <table className="data-table">
            <thead>
              <tr>
                <th scope="col">Setting</th>
                <th scope="col">Precision</th>
                <th scope="col">Recall</th>
                <th scope="col" className="right">
                  Lead
                </th>
                <th scope="col" className="right">
                  False alarms a day
                </th>
                <th scope="col" className="right">
                  Warnings
                </th>
                <th scope="col" className="right">
                  Spikes
                </th>
              </tr>
            </thead>
            <tbody>
              {warnings.map((each) => (
                <tr key={each.setting}>
                  <td>{words(each.setting)}</td>
                  <td className="num">{shareText(each.precision, each.precision_interval)}</td>
                  <td className="num">{shareText(each.recall, each.recall_interval)}</td>
                  <td className="right">{duration(each.lead_s)}</td>
                  <td className="right">{number(each.false_per_day)}</td>
                  <td className="right">
                    {number(each.warnings)}
                    {each.unjudged > 0 && (
                      <span className="muted"> ({percent(each.unjudged / each.warnings, 0)} open)</span>
                    )}
                  </td>
                  <td className="right">{number(each.spikes)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </ScrollX>
      )}
      <p className="inset small muted">
        Precision: warnings that a spike followed in time. Recall: spikes that a warning came before. In brackets the 95
        % interval.
      </p>
    </Panel>
  );
}
