import { Button, SegmentedControl } from "@mantine/core";
import { Link, useSearchParams } from "react-router";
import { type Alert, useAlerts } from "../../api/alerts";
import { usePools } from "../../api/queries";
import { CheckIcon, WarnIcon } from "../../components/icons";
import { PageHeader } from "../../components/PageHeader";
import { Panel } from "../../components/Panel";
import { poolName } from "../../components/RoleFields";
import { Empty, Failed, Loading } from "../../components/States";
import { Chip, Tag } from "../../components/Tag";
import { When } from "../../components/When";
import { words } from "../../lib/format";
import classes from "./Alerts.module.css";
import { RulesPanel } from "./RulesPanel";

/** What Alertmanager and Grafana said, and what it set off here. */
export function AlertsPage() {
  const [search, setSearch] = useSearchParams();
  const firing = search.get("firing") !== "false";
  const alerts = useAlerts(firing);
  const list = alerts.data?.pages.flatMap((page) => page.items) ?? [];
  return (
    <>
      <PageHeader
        title="Alerts"
        note="Monitoring may pause or roll back a rollout, or freeze a pool. A resolved alert lifts only what it set itself."
        actions={
          <SegmentedControl
            size="xs"
            aria-label="Which alerts"
            value={String(firing)}
            onChange={(value) => setSearch(value === "true" ? {} : { firing: "false" }, { replace: true })}
            data={[
              { value: "true", label: "Firing" },
              { value: "false", label: "All" },
            ]}
          />
        }
      />
      <div className="stack">
        <Panel title={firing ? "Firing now" : "All alerts"}>
          {alerts.isPending && <Loading height={120} />}
          {alerts.isError && list.length === 0 && <Failed error={alerts.error} />}
          {alerts.isSuccess && list.length === 0 && (
            <Empty title={firing ? "Nothing fires" : "No alert came in yet"}>
              Point Alertmanager's webhook at{" "}
              <span className={`mono ${classes.address}`}>{window.location.origin}/api/v1/alerts/alertmanager</span>{" "}
              with a token of an operator; Grafana's at{" "}
              <span className={`mono ${classes.address}`}>/api/v1/alerts/grafana</span>.
            </Empty>
          )}
          <ul className={classes.alerts}>
            {list.map((alert) => (
              <One key={alert.id} alert={alert} />
            ))}
          </ul>
          {alerts.hasNextPage && (
            <Button
              size="compact-sm"
              variant="default"
              mt="md"
              loading={alerts.isFetchingNextPage}
              onClick={() => void alerts.fetchNextPage()}
            >
              Show older
            </Button>
          )}
        </Panel>
        <RulesPanel />
      </div>
    </>
  );
}

function One({ alert }: { alert: Alert }) {
  const pools = usePools();
  const name = (id: string | null) => (id ? poolName(pools.data?.items ?? [], id) : "no pool");
  return (
    <li>
      <p className="row">
        <Tag
          look={
            alert.resolved_at
              ? { tone: "ok", icon: CheckIcon, text: "Resolved" }
              : { tone: "bad", icon: WarnIcon, text: "Firing" }
          }
          quiet
        />
        <strong>{alert.name}</strong>
        <Chip>{alert.source}</Chip>
        <span className="muted">
          {name(alert.pool_id)} · began <When at={alert.starts_at} />
          {alert.resolved_at && (
            <>
              , resolved <When at={alert.resolved_at} />
            </>
          )}
        </span>
      </p>
      {annotation(alert) && <p className={classes.words}>{annotation(alert)}</p>}
      {alert.effects.length === 0 ? (
        <p className="small muted">No rule matches it: nothing was set off.</p>
      ) : (
        <ul className={classes.effects}>
          {alert.effects.map((effect) => (
            <li key={effect.rule_name}>
              <Chip tone={effect.state === "set" || effect.state === "joined" ? "warn" : "idle"}>
                {words(effect.action)}: {effect.state}
              </Chip>{" "}
              {effect.rollout_id ? <Link to={`/rollouts/${effect.rollout_id}`}>{effect.detail}</Link> : effect.detail}{" "}
              <span className="muted">by rule {effect.rule_name}</span>
            </li>
          ))}
        </ul>
      )}
    </li>
  );
}

function annotation(alert: Alert): string {
  const said = alert.annotations.summary ?? alert.annotations.description;
  return typeof said === "string" ? said : "";
}
