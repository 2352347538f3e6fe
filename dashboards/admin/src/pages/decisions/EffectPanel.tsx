import { useEffectOf } from "../../api/queries";
import type { Decision, Effect } from "../../api/types";
import { Panel } from "../../components/Panel";
import { ScrollX } from "../../components/ScrollX";
import { Answer, Empty } from "../../components/States";
import { Chip } from "../../components/Tag";
import { When } from "../../components/When";
import { duration, perSecond, plural, seconds } from "../../lib/format";

type Format = (value: number | null | undefined) => string;
type Stretch = Effect["stretches"][number];

const METRICS: Record<string, { label: string; format: Format; lessIsBetter: boolean }> = {
  ttft_p95_s: { label: "TTFT p95", format: seconds, lessIsBetter: true },
  itl_p95_s: { label: "ITL p95", format: seconds, lessIsBetter: true },
  throughput_tokens_per_s: { label: "Answer tokens", format: perSecond, lessIsBetter: false },
};

/** What was expected beside what came, once the change was in force everywhere. Nothing for decisions that changed nothing. */
export function EffectPanel({ decision }: { decision: Decision }) {
  const effect = useEffectOf(decision.id);
  if (decision.chosen === null || effect.data?.standing === "no_change") return null;
  return (
    <Panel
      flush
      title="Expected and realised"
      aside={
        effect.data?.in_force_at && (
          <span>
            in force everywhere <When at={effect.data.in_force_at} />
          </span>
        )
      }
    >
      <Answer query={effect}>{(data) => <Standing effect={data} />}</Answer>
    </Panel>
  );
}

function Standing({ effect }: { effect: Effect }) {
  switch (effect.standing) {
    case "not_in_force":
      return (
        <div className="inset">
          <Empty title="Not in force everywhere">
            The rollout has not reached every node, or was taken back. Its page says which.
          </Empty>
        </div>
      );
    case "too_early":
      return (
        <div className="inset">
          <Empty title="Too early to tell">
            The first windows under the new settings are still being measured, or the model had too little to go by.
          </Empty>
        </div>
      );
    default:
      return <Table effect={effect} />;
  }
}

function Table({ effect }: { effect: Effect }) {
  return (
    <>
      <ScrollX label="Expected and realised">
        <table className="data-table">
          <thead>
            <tr>
              <th scope="col">After</th>
              <th scope="col">Figure</th>
              <th scope="col" className="right">
                Without the change
              </th>
              <th scope="col" className="right">
                Expected
              </th>
              <th scope="col" className="right">
                Realised
              </th>
              <th scope="col" className="right">
                Load that came
              </th>
            </tr>
          </thead>
          <tbody>
            {effect.stretches.flatMap((stretch) =>
              stretch.came.map((came, index) => (
                <tr key={`${stretch.after_s}:${came.metric}`}>
                  <td className="nowrap">{index === 0 && <After stretch={stretch} cut={effect.until !== null} />}</td>
                  <td className="nowrap">{METRICS[came.metric]?.label ?? came.metric}</td>
                  <td className="right">{shown(came.metric, came.without)}</td>
                  <td className="right">{shown(came.metric, came.expected)}</td>
                  <td className="right">
                    <strong>{shown(came.metric, came.realised)}</strong>
                  </td>
                  <td className="right">{index === 0 && perSecond(stretch.offered_rps)}</td>
                </tr>
              )),
            )}
          </tbody>
        </table>
      </ScrollX>
      <p className="inset small muted">
        Expected and without the change: what the model of that moment says of the load that came. Realised: the median
        window's.
      </p>
    </>
  );
}

function After({ stretch, cut }: { stretch: Stretch; cut: boolean }) {
  return (
    <>
      {duration(stretch.after_s)} {!stretch.complete && <Chip>{cut ? "until the next change" : "still running"}</Chip>}
      <span className="small muted" style={{ display: "block" }}>
        {plural(stretch.windows, "window")}
      </span>
    </>
  );
}

function shown(metric: string, value: number | null): string {
  return (METRICS[metric]?.format ?? String)(value);
}
