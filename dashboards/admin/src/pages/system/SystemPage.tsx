import { usePools, useSystem } from "../../api/queries";
import type { System } from "../../api/types";
import { EventFeed } from "../../components/EventFeed";
import { FreezeAll } from "../../components/FreezeAll";
import { FreezeControl } from "../../components/FreezeControl";
import { CheckIcon, WarnIcon } from "../../components/icons";
import { Metric, Metrics } from "../../components/Metric";
import { PageHeader } from "../../components/PageHeader";
import { Panel } from "../../components/Panel";
import { Answer } from "../../components/States";
import { Tag } from "../../components/Tag";
import { When } from "../../components/When";
import { duration, number, plural } from "../../lib/format";
import { ProcessTable } from "./ProcessTable";

/** One controller leads all pools, or several share them out. */
function LeaderMetric({ system }: { system: System }) {
  const { leader, leaders, unled_pools: unled } = system;
  if (!leader) return <Metric label="Leader" value="none" note="no controller decides now" tone="bad" />;
  if (unled) {
    return (
      <Metric
        label="Leader"
        value={`${plural(unled, "pool")} without`}
        note="no controller decides there now"
        tone="bad"
      />
    );
  }
  if (leaders.length === 1) {
    return (
      <Metric label="Leader" value={`epoch ${leader.epoch}`} note={<span className="mono">{leader.holder}</span>} />
    );
  }
  const shares = leaders.map((each) => `${each.holder}: ${plural(each.pools, "pool")}`);
  return (
    <Metric
      label="Leaders"
      value={plural(leaders.length, "controller")}
      note={<span className="mono">{shares.join(", ")}</span>}
    />
  );
}

export function SystemPage() {
  const system = useSystem();
  return (
    <>
      <PageHeader title="System" note="Trimtab's own processes: what they do, and whether they do it." />
      <Answer query={system} height={420}>
        {(data) => (
          <div className="stack">
            <FreezeAll system={data} />
            <Panel title="Health">
              <Metrics>
                <LeaderMetric system={data} />
                <Metric
                  label="Outbox"
                  value={plural(data.outbox.open, "open task")}
                  note={data.outbox.oldest_age_s ? `oldest ${duration(data.outbox.oldest_age_s)}` : "nothing waits"}
                />
                <Metric
                  label="Given up"
                  value={number(data.outbox.dead)}
                  note="tasks that kept failing"
                  {...(data.outbox.dead ? { tone: "bad" } : {})}
                />
                <Metric label="Frozen pools" value={number(data.frozen_pools)} />
                <Metric label="Database" value={data.database.kind} note={data.database.revision ?? "no revision"} />
                <Metric label="Version" value={data.version} />
              </Metrics>
            </Panel>
            <div className="grid-2">
              <Dependencies system={data} />
              <PoolFreezes />
            </div>
            <ProcessTable processes={data.processes} />
            <Panel title="Events">
              <EventFeed filter={{}} limit={30} />
            </Panel>
          </div>
        )}
      </Answer>
    </>
  );
}

function Dependencies({ system }: { system: System }) {
  const rows: [string, System["redis"]][] = [
    ["Prometheus", system.prometheus],
    ["Redis", system.redis],
  ];
  return (
    <Panel title="What it rests on">
      <ul className="stack" style={{ gap: 12 }}>
        {rows.map(([name, { ok, detail }]) => (
          <li key={name}>
            <div className="row spread">
              <strong>{name}</strong>
              <Tag
                look={
                  ok
                    ? { tone: "ok", icon: CheckIcon, text: "reachable" }
                    : { tone: "bad", icon: WarnIcon, text: "not reachable" }
                }
              />
            </div>
            <p className="small muted">{detail}</p>
          </li>
        ))}
      </ul>
    </Panel>
  );
}

function PoolFreezes() {
  const pools = usePools();
  return (
    <Panel title="Tuning per pool">
      <Answer query={pools}>
        {({ items }) => (
          <ul className="stack" style={{ gap: 10 }}>
            {items.map((pool) => (
              <li key={pool.id} className="row spread">
                <div>
                  <strong>{pool.name}</strong>
                  <p className="small muted">
                    {pool.frozen ? (
                      <>
                        Frozen <When at={pool.frozen.at} />: {pool.frozen.reason}
                      </>
                    ) : (
                      "Tuned as its policy allows"
                    )}
                  </p>
                </div>
                <FreezeControl pool={pool} />
              </li>
            ))}
          </ul>
        )}
      </Answer>
    </Panel>
  );
}
