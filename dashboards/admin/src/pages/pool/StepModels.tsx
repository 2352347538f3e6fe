import { useStepModels } from "../../api/queries";
import type { Pool, StepModel } from "../../api/types";
import { CheckIcon, InfoIcon, WarnIcon } from "../../components/icons";
import { Panel } from "../../components/Panel";
import { ScrollX } from "../../components/ScrollX";
import { Chip, Tag } from "../../components/Tag";
import type { Look } from "../../components/tones";
import { When } from "../../components/When";
import { number, percent } from "../../lib/format";

const LOOKS: Record<StepModel["state"], Look> = {
  learning: { tone: "idle", icon: InfoIcon, text: "learning" },
  level: { tone: "info", icon: InfoIcon, text: "level known" },
  ready: { tone: "ok", icon: CheckIcon, text: "ready" },
  degraded: { tone: "warn", icon: WarnIcon, text: "machine changed" },
};

/** What service taught of step times, by level; nothing where it taught nothing yet. */
export function StepModels({ pool }: { pool: Pool }) {
  const { data } = useStepModels(pool.id);
  if (!data || data.levels.length === 0) return null;
  return (
    <Panel title="Step times learned" flush aside={<span>times as long as the nodes expect</span>}>
      <ScrollX label="Step times learned">
        <table className="data-table">
          <thead>
            <tr>
              <th scope="col">Level</th>
              <th scope="col">State</th>
              <th scope="col">Base, rows, prefill</th>
              <th scope="col">Windows</th>
              <th scope="col">Off by</th>
              <th scope="col">Learned</th>
            </tr>
          </thead>
          <tbody>
            {data.levels.map((level) => (
              <Row key={JSON.stringify([named(level), level.machine])} level={level} />
            ))}
          </tbody>
        </table>
      </ScrollX>
    </Panel>
  );
}

function Row({ level }: { level: StepModel }) {
  const { base, rows, prefill } = level.factors;
  return (
    <tr title={level.machine.map(({ hardware, engine_version }) => `${hardware}, ${engine_version}`).join("; ")}>
      <td className="nowrap">
        {named(level)} {level.in_force_since !== null && <Chip tone="accent">in force</Chip>}
      </td>
      <td>
        <Tag look={LOOKS[level.state]} quiet={level.state === "ready"} />
      </td>
      <td className="num nowrap">{[base, rows, prefill].map((factor) => factor.toFixed(2)).join(" · ")}</td>
      <td className="num">{number(level.windows)}</td>
      <td className="num">{percent(level.error_ratio, 0)}</td>
      <td>{level.learned_at === null ? "not yet" : <When at={level.learned_at} />}</td>
    </tr>
  );
}

function named({ precision, kv_precision, pruning }: StepModel): string {
  const rest = [kv_precision !== "model" && `KV ${kv_precision}`, pruning > 0 && `pruned to ${percent(pruning, 0)}`];
  return [precision, ...rest.filter(Boolean)].join(", ");
}
