import { Link, useParams } from "react-router";
import { useKnobs, useNode, usePool } from "../../api/queries";
import type { Node } from "../../api/types";
import { useIsAdmin } from "../../app/useRole";
import { RangePicker } from "../../components/charts/RangePicker";
import { SubjectCharts } from "../../components/charts/SubjectCharts";
import { EventFeed } from "../../components/EventFeed";
import { Metric, Metrics } from "../../components/Metric";
import { syncLook } from "../../components/NodeGrid";
import { PageHeader } from "../../components/PageHeader";
import { Panel } from "../../components/Panel";
import { Answer } from "../../components/States";
import { Tag } from "../../components/Tag";
import { healthLook } from "../../components/tones";
import { When } from "../../components/When";
import { number, percent, perSecond, seconds } from "../../lib/format";
import { Machine } from "./Machine";
import { Recordings } from "./Recordings";
import { SettingsTable } from "./SettingsTable";

export function NodePage() {
  const { nodeId = "" } = useParams();
  const node = useNode(nodeId);
  return <Answer query={node}>{(data) => <NodeView node={data} />}</Answer>;
}

function NodeView({ node }: { node: Node }) {
  const pool = usePool(node.pool_id);
  const knobs = useKnobs();
  const isAdmin = useIsAdmin(node.pool_id);
  return (
    <>
      <PageHeader
        title={node.name}
        trail={[
          { label: "Fleet", to: "/" },
          { label: node.pool, to: `/pools/${node.pool_id}` },
        ]}
        note={
          <>
            {node.model} at <span className="mono">{node.url}</span> · heartbeat <When at={node.last_heartbeat_at} />
          </>
        }
        tags={
          <>
            <Tag look={healthLook(node.health)} />
            <Tag look={syncLook(node)} />
          </>
        }
        actions={<RangePicker />}
      />
      <div className="stack">
        <Panel title="Now">
          <Metrics>
            <Metric label="Running" value={number(node.running)} />
            <Metric label="Waiting" value={number(node.waiting)} />
            <Metric label="KV cache" value={percent(node.kv_usage)} />
            <Metric label="TTFT p95" value={seconds(node.latest?.ttft_p95_s)} />
            <Metric label="ITL p95" value={seconds(node.latest?.itl_p95_s)} />
            <Metric label="Offered" value={perSecond(node.latest?.offered_rps)} />
            <Metric label="Generated" value={perSecond(node.latest?.generation_tokens_per_s)} note="tokens" />
            <Metric label="Step" value={seconds(node.latest?.step_mean_s)} note="mean" />
          </Metrics>
        </Panel>
        <SubjectCharts subject={{ of: "node", id: node.id }} poolId={node.pool_id} slo={pool.data?.slo} />
        <div className="grid-2">
          <SettingsTable node={node} knobs={knobs.data ?? []} />
          <div className="stack">
            <Machine node={node} />
            <Panel title="Events" aside={<Link to={`/pools/${node.pool_id}`}>Pool</Link>}>
              <EventFeed filter={{ node_id: node.id }} limit={15} />
            </Panel>
          </div>
        </div>
        {isAdmin && <Recordings node={node} />}
      </div>
    </>
  );
}
