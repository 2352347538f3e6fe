import { useMemo } from "react";
import { Link } from "react-router";
import { useNodes } from "../../api/queries";
import { useRollout } from "../../api/rollouts";
import type { Pool } from "../../api/types";
import { loadChart } from "../../components/charts/models";
import { useRange } from "../../components/charts/RangePicker";
import { TimeChart } from "../../components/charts/TimeChart";
import { useChartData } from "../../components/charts/useChartData";
import { SnowIcon } from "../../components/icons";
import { NodeGrid } from "../../components/NodeGrid";
import { StepLadder } from "../../components/StepLadder";
import { Chip, Tag } from "../../components/Tag";
import { outcomeLook, phaseLook } from "../../components/tones";
import { When } from "../../components/When";
import { plural } from "../../lib/format";
import { changesText } from "../../lib/settings";
import classes from "./FleetPage.module.css";
import { PoolFigures } from "./PoolFigures";
import { SettingsInForce } from "./SettingsInForce";

/** One pool at a glance: does it keep its objective, what is coming, what was decided about it, and what is on its way. */
export function PoolCard({ pool }: { pool: Pool }) {
  const nodes = useNodes(pool.id);
  return (
    <article className={classes.card} aria-labelledby={`pool-${pool.id}`}>
      <header className={classes.head}>
        <div className="row">
          <h2 className={classes.name} id={`pool-${pool.id}`}>
            <Link to={`/pools/${pool.id}`}>{pool.name}</Link>
          </h2>
          <span className="muted small">{pool.model}</span>
        </div>
        <div className="row">
          {pool.frozen && (
            <Tag look={{ tone: "info", icon: SnowIcon, text: `Frozen: ${pool.frozen.reason ?? "no reason given"}` }} />
          )}
          <Chip tone={pool.ready === pool.nodes ? "ok" : "warn"}>
            {pool.ready} of {plural(pool.nodes, "node")} ready
          </Chip>
          <Chip tone={pool.in_sync === pool.nodes ? "idle" : "warn"}>{pool.in_sync} in sync</Chip>
        </div>
      </header>
      <div className={classes.part}>
        <PoolFigures pool={pool} />
      </div>
      <div className={classes.chart}>
        <LoadChart pool={pool} />
      </div>
      <div className={`${classes.part} ${classes.why}`}>
        <LatestDecision pool={pool} />
        <SettingsInForce pool={pool} />
      </div>
      {pool.active_rollout && (
        <div className={classes.part}>
          <ActiveRollout id={pool.active_rollout.id} />
        </div>
      )}
      <div className={classes.part}>
        <NodeGrid nodes={nodes.data?.items ?? []} />
      </div>
    </article>
  );
}

function LoadChart({ pool }: { pool: Pool }) {
  const [range] = useRange();
  const { windows, forecasts, marks, span } = useChartData({ of: "pool", id: pool.id }, pool.id, range);
  const model = useMemo(
    () => loadChart(windows, { forecast: forecasts.offered_rps, marks, span }),
    [windows, forecasts.offered_rps, marks, span],
  );
  const maker = forecasts.offered_rps ? (
    <span>Forecast by {forecasts.offered_rps.model.replaceAll("_", " ")}</span>
  ) : null;
  return <TimeChart title="Offered load" model={model} height={170} aside={maker} />;
}

function LatestDecision({ pool }: { pool: Pool }) {
  const decision = pool.last_decision;
  if (!decision) return <p className="muted">The first decision follows with the controller's next tick.</p>;
  return (
    <div>
      <p className={classes.label}>
        Latest decision <Tag look={outcomeLook(decision.outcome)} /> <When at={decision.at} />
      </p>
      <p className={classes.text}>
        {decision.explanation} <Link to={`/decisions/${decision.id}`}>Why</Link>
      </p>
    </div>
  );
}

function ActiveRollout({ id }: { id: string }) {
  const rollout = useRollout(id);
  if (!rollout.data) return <p className="muted">A rollout is under way.</p>;
  const { phase, steps, changes } = rollout.data;
  return (
    <div className="stack" style={{ gap: 10 }}>
      <div className="row spread">
        <p className="row">
          <Link to={`/rollouts/${id}`}>Rollout</Link>
          <span className="mono small">{changesText(changes)}</span>
        </p>
        <Tag look={phaseLook(phase)} />
      </div>
      <StepLadder steps={steps} compact />
    </div>
  );
}
