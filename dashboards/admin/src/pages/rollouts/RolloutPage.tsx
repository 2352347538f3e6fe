import { Link, useParams } from "react-router";
import { useKnobs } from "../../api/queries";
import { useRollout } from "../../api/rollouts";
import type { Rollout } from "../../api/types";
import { EventList } from "../../components/EventFeed";
import { PageHeader } from "../../components/PageHeader";
import { Panel } from "../../components/Panel";
import { SettingsDiff } from "../../components/SettingsDiff";
import { Answer } from "../../components/States";
import { StepLadder } from "../../components/StepLadder";
import { Tag } from "../../components/Tag";
import { phaseLook } from "../../components/tones";
import { When } from "../../components/When";
import { isOpenToVotes } from "../../lib/approvals";
import { changesText } from "../../lib/settings";
import { AnalysisPanel } from "./AnalysisPanel";
import { Approval } from "./Approval";
import { CompareCharts } from "./CompareCharts";
import { NodesTable } from "./NodesTable";
import { RolloutActions } from "./RolloutActions";
import classes from "./Rollouts.module.css";

export function RolloutPage() {
  const { rolloutId = "" } = useParams();
  const rollout = useRollout(rolloutId);
  return <Answer query={rollout}>{(data) => <RolloutView rollout={data} />}</Answer>;
}

function RolloutView({ rollout }: { rollout: Rollout }) {
  const knobs = useKnobs();
  const waits = isOpenToVotes(rollout);
  return (
    <>
      <PageHeader
        title={changesText(rollout.changes)}
        trail={[
          { label: "Rollouts", to: "/rollouts" },
          { label: rollout.pool, to: `/pools/${rollout.pool_id}` },
        ]}
        tags={<Tag look={phaseLook(rollout.phase)} />}
        note={
          <>
            Revision {rollout.from_revision.number} to {rollout.to_revision.number}, {waits ? "asked for" : "started"}{" "}
            <When at={rollout.created_at} /> by {rollout.created_by}
            {rollout.ended_at && (
              <>
                , ended <When at={rollout.ended_at} />
              </>
            )}
          </>
        }
        actions={<RolloutActions rollout={rollout} />}
      />
      <div className={classes.layout}>
        <div className="stack">
          <Panel title="Progress">
            {rollout.paused_reason && <p className={classes.paused}>Paused: {rollout.paused_reason}</p>}
            {rollout.request && (
              <p className={classes.asked}>
                {rollout.request.actor} asked to {rollout.request.verb}; the controller meets it within seconds.
              </p>
            )}
            <p className={classes.outcome} aria-live="polite">
              {rollout.outcome ?? rollout.reason}
            </p>
            <StepLadder steps={rollout.steps} />
          </Panel>
          {!waits && <AnalysisPanel analyses={rollout.analyses} />}
          {!waits && <CompareCharts rollout={rollout} />}
          <NodesTable nodes={rollout.nodes} />
        </div>
        <div className="stack">
          <Approval rollout={rollout} />
          <Panel
            title="What changes"
            aside={rollout.decision_id && <Link to={`/decisions/${rollout.decision_id}`}>Why</Link>}
          >
            <SettingsDiff changes={rollout.changes} knobs={knobs.data ?? []} />
          </Panel>
          <Panel title="Timeline">
            <EventList events={newestFirst(rollout)} links={false} />
          </Panel>
        </div>
      </div>
    </>
  );
}

function newestFirst(rollout: Rollout) {
  return [...rollout.timeline].sort((a, b) => b.id - a.id);
}
