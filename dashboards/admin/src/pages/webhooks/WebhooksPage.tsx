import { Button, Tooltip } from "@mantine/core";
import { useState } from "react";
import { useSearchParams } from "react-router";
import { usePools } from "../../api/queries";
import { useWebhooks, type Webhook } from "../../api/webhooks";
import { useIsAdminEverywhere } from "../../app/useRole";
import { CheckIcon, PauseIcon, WarnIcon } from "../../components/icons";
import { PageHeader } from "../../components/PageHeader";
import { Panel } from "../../components/Panel";
import { poolName } from "../../components/RoleFields";
import { Answer, Empty } from "../../components/States";
import { Chip, Tag } from "../../components/Tag";
import type { Look } from "../../components/tones";
import { When } from "../../components/When";
import { plural } from "../../lib/format";
import { Deliveries } from "./Deliveries";
import { NewWebhook } from "./NewWebhook";
import { WebhookActions } from "./WebhookActions";
import classes from "./Webhooks.module.css";

/** Who is told of events, and what became of each telling. */
export function WebhooksPage() {
  const webhooks = useWebhooks();
  const isAdmin = useIsAdminEverywhere();
  const [adding, setAdding] = useState(false);
  return (
    <>
      <PageHeader
        title="Webhooks"
        note="Events go to other systems signed, and again until they arrive or three days are over."
        actions={
          <Tooltip label="Admins may do this" disabled={isAdmin}>
            <Button disabled={!isAdmin} onClick={() => setAdding(true)}>
              Add a webhook
            </Button>
          </Tooltip>
        }
      />
      <Answer query={webhooks} height={320}>
        {(list) =>
          list.length === 0 ? (
            <Empty title="Nobody is told yet">
              Slack, Teams, PagerDuty, a tracker, Alertmanager, or any receiver of Standard Webhooks.
            </Empty>
          ) : (
            <div className="stack">
              {list.map((webhook) => (
                <One key={webhook.id} webhook={webhook} />
              ))}
            </div>
          )
        }
      </Answer>
      {adding && <NewWebhook onClose={() => setAdding(false)} />}
    </>
  );
}

function lookOf(webhook: Webhook): Look {
  if (webhook.disabled_at) return { tone: "idle", icon: PauseIcon, text: "Off" };
  if (webhook.failures > 0)
    return { tone: "warn", icon: WarnIcon, text: `${plural(webhook.failures, "failure")} in a row` };
  return { tone: "ok", icon: CheckIcon, text: "On" };
}

function One({ webhook }: { webhook: Webhook }) {
  const [search, setSearch] = useSearchParams();
  const pools = usePools();
  const open = search.get("open") === webhook.id;
  return (
    <Panel
      title={
        <span className="row">
          {webhook.name} <Tag look={lookOf(webhook)} quiet /> <Chip>{webhook.format}</Chip>
        </span>
      }
      aside={<WebhookActions webhook={webhook} />}
      flush
    >
      <div className="inset stack">
        <p className={`mono ${classes.url}`}>{webhook.url}</p>
        <p className="small muted">
          {webhook.kinds.join(", ")} ·{" "}
          {webhook.min_severity === "info" ? "all severities" : `${webhook.min_severity} and worse`} ·{" "}
          {webhook.pool_id ? `pool ${poolName(pools.data?.items ?? [], webhook.pool_id)}` : "all pools"}
          {webhook.coalesce_s > 0 && ` · gathered for ${webhook.coalesce_s} s`} ·{" "}
          {webhook.last_delivered_at ? (
            <>
              last delivered <When at={webhook.last_delivered_at} />
            </>
          ) : (
            "nothing delivered yet"
          )}
        </p>
        {webhook.disabled_reason && <p className={classes.off}>Off: {webhook.disabled_reason}</p>}
        {webhook.held_until && !webhook.disabled_at && (
          <p className={classes.off}>
            Held until its next try, <When at={webhook.held_until} exact />.
          </p>
        )}
        <div>
          <Button
            size="compact-sm"
            variant="default"
            aria-expanded={open}
            onClick={() => setSearch(open ? {} : { open: webhook.id }, { replace: true })}
          >
            {open ? "Hide deliveries" : "Deliveries"}
          </Button>
        </div>
      </div>
      {open && <Deliveries webhook={webhook} />}
    </Panel>
  );
}
