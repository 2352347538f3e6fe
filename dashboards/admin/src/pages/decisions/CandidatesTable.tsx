import type { Candidate, Decision, EngineSettings, Slo } from "../../api/types";
import { Panel } from "../../components/Panel";
import { ScrollX } from "../../components/ScrollX";
import { Chip } from "../../components/Tag";
import { number, percent, perSecond, seconds } from "../../lib/format";
import { changesBetween, knobText } from "../../lib/settings";
import classes from "./Decisions.module.css";

function isSame(a: EngineSettings, b: EngineSettings | null): boolean {
  return b !== null && Object.keys(changesBetween(a, b)).length === 0;
}

/** What else could have been done, what the performance model expects of it, and why it was not taken. */
export function CandidatesTable({ decision, slo }: { decision: Decision; slo: Slo | undefined }) {
  const { candidates } = decision;
  if (candidates.length === 0) return null;
  const hasLoss = candidates.some((candidate) => (candidate.predicted.quality_loss_ratio ?? 0) > 0);
  return (
    <Panel title="Candidates and what was expected of them" aside={<span>{candidates.length} weighed</span>} flush>
      <ScrollX label="Candidates">
        <table className="data-table">
          <thead>
            <tr>
              <th scope="col">Settings</th>
              <th scope="col" className="right">
                TTFT p95
              </th>
              <th scope="col" className="right">
                ITL p95
              </th>
              <th scope="col" className="right">
                Capacity
              </th>
              <th scope="col" className="right">
                Tokens
              </th>
              <th scope="col" className="right">
                Breach
              </th>
              {hasLoss && (
                <th scope="col" className="right">
                  Quality loss
                </th>
              )}
              <th scope="col">Verdict</th>
            </tr>
          </thead>
          <tbody>
            {candidates.map((candidate) => (
              <CandidateRow
                key={JSON.stringify(candidate.settings)}
                candidate={candidate}
                chosen={isSame(candidate.settings, decision.chosen)}
                hasLoss={hasLoss}
                slo={slo}
              />
            ))}
          </tbody>
        </table>
      </ScrollX>
    </Panel>
  );
}

interface RowProps {
  candidate: Candidate;
  chosen: boolean;
  hasLoss: boolean;
  slo: Slo | undefined;
}

function CandidateRow({ candidate, chosen, hasLoss, slo }: RowProps) {
  const { predicted } = candidate;
  const changes = Object.entries(candidate.changes);
  return (
    <tr className={chosen ? "picked" : undefined}>
      <td>
        <span className={classes.changes}>
          {changes.length === 0 && <span className="muted">as they are</span>}
          {changes.map(([name, [, to]]) => (
            <span key={name}>
              <span className="mono">{name}</span> {knobText(to)}
            </span>
          ))}
        </span>
      </td>
      <td className="right">
        <Against value={predicted.ttft_p95_s} limit={slo?.ttft_p95_s} />
      </td>
      <td className="right">
        <Against value={predicted.itl_p95_s} limit={slo?.itl_p95_s} />
      </td>
      <td className="right">{predicted.capacity_rps === undefined ? "–" : perSecond(predicted.capacity_rps)}</td>
      <td className="right">{number(predicted.throughput_tokens_per_s)}/s</td>
      <td className="right">{percent(predicted.breach_probability)}</td>
      {hasLoss && <td className="right">{percent(predicted.quality_loss_ratio)}</td>}
      <td className={classes.verdict}>
        {chosen && <Chip tone="accent">chosen</Chip>} {candidate.verdict}
      </td>
    </tr>
  );
}

/** A latency, with a word where it is beyond the objective. */
function Against({ value, limit }: { value: number | null | undefined; limit: number | undefined }) {
  const over = typeof value === "number" && limit !== undefined && value > limit;
  if (typeof value === "number" && value > 3600) return <span style={{ color: "var(--bad)" }}>never served</span>;
  return (
    <span style={over ? { color: "var(--bad)", fontWeight: 600 } : undefined}>
      {seconds(value)}
      {over && <span className="visually-hidden"> (over the objective)</span>}
    </span>
  );
}
