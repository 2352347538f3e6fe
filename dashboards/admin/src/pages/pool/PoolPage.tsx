import { Button } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { Link, useParams } from "react-router";
import { useNodes, useObservations, usePool } from "../../api/queries";
import type { Pool } from "../../api/types";
import { useMayOperate } from "../../app/useRole";
import { RangePicker, useRange } from "../../components/charts/RangePicker";
import { SubjectCharts } from "../../components/charts/SubjectCharts";
import { EventFeed } from "../../components/EventFeed";
import { FreezeControl } from "../../components/FreezeControl";
import { RolloutIcon, SnowIcon } from "../../components/icons";
import { NodeGrid } from "../../components/NodeGrid";
import { PageHeader } from "../../components/PageHeader";
import { Panel } from "../../components/Panel";
import { Answer } from "../../components/States";
import { Chip, Tag } from "../../components/Tag";
import { percent, plural } from "../../lib/format";
import { sinceOf } from "../../lib/range";
import { attainment } from "../../lib/series";
import { PoolFigures } from "../fleet/PoolFigures";
import { SettingsInForce } from "../fleet/SettingsInForce";
import { NewRollout } from "../rollouts/NewRollout";
import { RevisionsTable } from "./RevisionsTable";
import { StepModels } from "./StepModels";

export function PoolPage() {
  const { poolId = "" } = useParams();
  const pool = usePool(poolId);
  return <Answer query={pool}>{(data) => <PoolView pool={data} />}</Answer>;
}

function PoolView({ pool }: { pool: Pool }) {
  const nodes = useNodes(pool.id);
  const [opened, dialog] = useDisclosure(false);
  const mayOperate = useMayOperate(pool.id);
  return (
    <>
      <PageHeader
        title={pool.name}
        trail={[{ label: "Fleet", to: "/" }]}
        note={`${pool.model} · ${plural(pool.nodes, "node")}, ${pool.ready} ready, ${pool.in_sync} in sync`}
        tags={
          <>
            {pool.frozen && (
              <Tag look={{ tone: "info", icon: SnowIcon, text: `Frozen: ${pool.frozen.reason ?? ""}` }} />
            )}
            {pool.active_rollout && (
              <Link to={`/rollouts/${pool.active_rollout.id}`}>
                <Chip tone="accent">Rollout under way</Chip>
              </Link>
            )}
          </>
        }
        actions={
          <>
            <RangePicker />
            <FreezeControl pool={pool} />
            <Button variant="default" component={Link} to={`/pools/${pool.id}/policy`}>
              Policy
            </Button>
            <Button variant="default" component={Link} to={`/what-if?pool=${pool.id}`}>
              What if
            </Button>
            <Button leftSection={<RolloutIcon size={14} />} disabled={!mayOperate} onClick={dialog.open}>
              New rollout
            </Button>
          </>
        }
      />
      <div className="stack">
        <Panel title="Against the objective, latest window" aside={<Attainment pool={pool} />}>
          <PoolFigures pool={pool} />
          {pool.error_budget?.freezes && <p className="muted small">{pool.error_budget.detail}</p>}
        </Panel>
        <SubjectCharts subject={{ of: "pool", id: pool.id }} poolId={pool.id} slo={pool.slo} />
        <Panel title="Nodes">
          <NodeGrid nodes={nodes.data?.items ?? []} />
        </Panel>
        <div className="grid-2">
          <div className="stack">
            <Panel title="Settings">
              <SettingsInForce pool={pool} />
            </Panel>
            <RevisionsTable pool={pool} />
            <StepModels pool={pool} />
          </div>
          <Panel
            title="Events"
            aside={
              <>
                <Link to={`/decisions?pool=${pool.id}`}>Decisions</Link>
                <Link to={`/forecasts?pool=${pool.id}`}>Forecasts</Link>
              </>
            }
          >
            <EventFeed filter={{ pool_id: pool.id }} limit={12} brief />
          </Panel>
        </div>
      </div>
      <NewRollout opened={opened} onClose={dialog.close} pool={pool} />
    </>
  );
}

function Attainment({ pool }: { pool: Pool }) {
  const [range] = useRange();
  const windows = useObservations({ of: "pool", id: pool.id }, range, () => ({ since: sinceOf(range, Date.now()) }));
  const { share, windows: judged } = attainment(windows.data ?? [], pool.slo);
  if (share === null) return null;
  return (
    <span>
      {percent(share)} of {plural(judged, "window")} in {range} kept it
    </span>
  );
}
