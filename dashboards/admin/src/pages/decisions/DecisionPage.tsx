import { Link, useParams } from "react-router";
import { useDecision, useKnobs, usePool } from "../../api/queries";
import type { Decision } from "../../api/types";
import { PageHeader } from "../../components/PageHeader";
import { Panel } from "../../components/Panel";
import { SettingsDiff } from "../../components/SettingsDiff";
import { Answer } from "../../components/States";
import { Tag } from "../../components/Tag";
import { outcomeLook } from "../../components/tones";
import { duration, moment, percent, words } from "../../lib/format";
import { CandidatesTable } from "./CandidatesTable";
import { Constraints } from "./Constraints";
import { DecisionCharts } from "./DecisionCharts";
import classes from "./Decisions.module.css";
import { EffectPanel } from "./EffectPanel";
import { ReplayBadge } from "./ReplayBadge";

export function DecisionPage() {
  const { decisionId = "" } = useParams();
  const decision = useDecision(decisionId);
  return <Answer query={decision}>{(data) => <DecisionView decision={data} />}</Answer>;
}

function DecisionView({ decision }: { decision: Decision }) {
  const pool = usePool(decision.pool_id);
  const knobs = useKnobs();
  const slo = pool.data?.slo;
  return (
    <>
      <PageHeader
        title={words(decision.reason)}
        trail={[
          { label: "Decisions", to: "/decisions" },
          { label: decision.pool, to: `/decisions?pool=${decision.pool_id}` },
        ]}
        tags={
          <>
            <Tag look={outcomeLook(decision.outcome)} />
            <ReplayBadge id={decision.id} />
          </>
        }
        note={moment(decision.at)}
      />
      <div className="stack">
        <Panel title="Why">
          <p className={classes.lead}>{decision.explanation}</p>
          <Facts decision={decision} />
        </Panel>
        <div className="grid-2">
          <Panel
            title="What changes"
            aside={
              decision.rollout_id && <Link to={`/rollouts/${decision.rollout_id}`}>The rollout that carries it</Link>
            }
          >
            <SettingsDiff changes={decision.changes} knobs={knobs.data ?? []} />
          </Panel>
          <Panel title="What bounded it">
            <Constraints constraints={decision.constraints} />
          </Panel>
        </div>
        <EffectPanel decision={decision} />
        <DecisionCharts decision={decision} slo={slo} />
        <CandidatesTable decision={decision} slo={slo} />
      </div>
    </>
  );
}

function Facts({ decision }: { decision: Decision }) {
  const held_s = (Date.parse(decision.last_at) - Date.parse(decision.at)) / 1000;
  const rows: [string, string][] = [
    ["Breach ahead", percent(decision.breach_probability)],
    ["Signal", words(decision.trigger)],
    ["Autonomy", words(decision.mode)],
    ["By", decision.actor],
    ["Controller epoch", String(decision.epoch)],
  ];
  if (decision.repeats > 1) rows.push(["Repeated", `${decision.repeats} times in ${duration(held_s)}`]);
  return (
    <dl className={classes.facts}>
      {rows.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}
