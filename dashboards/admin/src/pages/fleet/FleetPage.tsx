import { useFleet } from "../../api/queries";
import { RangePicker } from "../../components/charts/RangePicker";
import { EventFeed } from "../../components/EventFeed";
import { Metric, Metrics } from "../../components/Metric";
import { PageHeader } from "../../components/PageHeader";
import { Panel } from "../../components/Panel";
import { Answer, Empty } from "../../components/States";
import { number, perSecond } from "../../lib/format";
import classes from "./FleetPage.module.css";
import { PoolCard } from "./PoolCard";
import { SystemStrip } from "./SystemStrip";

export function FleetPage() {
  const fleet = useFleet();
  return (
    <>
      <PageHeader title="Fleet" actions={<RangePicker />} />
      <div className={classes.layout}>
        <div className="stack">
          <Answer query={fleet} height={520}>
            {({ pools }) =>
              pools.length === 0 ? (
                <Empty title="No pool yet">
                  A pool appears with its first node. Start one with{" "}
                  <span className="mono">trimtab node --model DIR</span>, or the whole demo with{" "}
                  <span className="mono">trimtab up</span>.
                </Empty>
              ) : (
                pools.map((pool) => <PoolCard key={pool.id} pool={pool} />)
              )
            }
          </Answer>
        </div>
        <aside className="stack" aria-label="Summary and latest events">
          {fleet.data && (
            <Panel title="All pools">
              <Metrics>
                <Metric
                  label="Nodes ready"
                  value={`${number(fleet.data.totals.ready)} of ${number(fleet.data.totals.nodes)}`}
                />
                <Metric label="Requests" value={perSecond(fleet.data.totals.requests_per_s)} />
                <Metric label="Tokens" value={perSecond(fleet.data.totals.tokens_per_s)} />
              </Metrics>
            </Panel>
          )}
          <SystemStrip />
          <Panel title="Latest events">
            <EventFeed filter={{}} limit={14} brief />
          </Panel>
        </aside>
      </div>
    </>
  );
}
