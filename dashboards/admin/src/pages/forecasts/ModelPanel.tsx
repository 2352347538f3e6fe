import type { ForecastTrack } from "../../api/types";
import { Panel } from "../../components/Panel";
import { ScrollX } from "../../components/ScrollX";
import { Empty } from "../../components/States";
import { Chip } from "../../components/Tag";
import { When } from "../../components/When";
import { modelUse } from "../../lib/forecasts";
import { clock, duration, number, percent, words } from "../../lib/format";

type Format = (value: number | null | undefined) => string;

/** Which model forecasts now, how the race stands, and which ones did before. */
export function ModelPanel({ track, format }: { track: ForecastTrack; format: Format }) {
  const [current] = track.stints;
  if (!current)
    return (
      <Panel title="Model in use">
        <Empty title="No forecast in this span">The controller makes one at each tick that has seen load.</Empty>
      </Panel>
    );
  return (
    <div className="grid-2">
      <Panel
        flush
        title="Models in the race"
        aside={
          <span>
            {words(current.model)} forecasts since {clock(current.since)}
          </span>
        }
      >
        <ScrollX label="Models">
          <table className="data-table">
            <thead>
              <tr>
                <th scope="col">Model</th>
                <th scope="col" className="right">
                  Share of forecasts
                </th>
                <th scope="col" className="right">
                  Score
                </th>
                <th scope="col">Last used</th>
              </tr>
            </thead>
            <tbody>
              {modelUse(track).map((use) => (
                <tr key={use.model}>
                  <td className="nowrap">
                    {words(use.model)} {use.model === current.model && <Chip tone="forecast">in use</Chip>}
                  </td>
                  <td className="right">{percent(use.share, 0)}</td>
                  <td className="right">{use.score === null ? "–" : format(use.score)}</td>
                  <td>{use.last ? <When at={use.last} /> : <span className="muted">not in this span</span>}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </ScrollX>
        <p className="inset small muted">
          The score is the pinball loss on the recent past; lower is better. Each tick the best one forecasts.
        </p>
      </Panel>
      <Panel flush title="Who forecast when" aside={<span>newest first</span>}>
        <ScrollX label="Stints of models" high>
          <table className="data-table">
            <thead>
              <tr>
                <th scope="col">Model</th>
                <th scope="col">From</th>
                <th scope="col">For</th>
                <th scope="col" className="right">
                  Forecasts
                </th>
              </tr>
            </thead>
            <tbody>
              {track.stints.map((stint) => (
                <tr key={stint.since}>
                  <td>{words(stint.model)}</td>
                  <td className="num">{clock(stint.since)}</td>
                  <td className="num">{duration((Date.parse(stint.until) - Date.parse(stint.since)) / 1000)}</td>
                  <td className="right">{number(stint.forecasts)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </ScrollX>
      </Panel>
    </div>
  );
}
