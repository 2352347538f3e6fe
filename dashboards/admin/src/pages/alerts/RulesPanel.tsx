import { Button } from "@mantine/core";
import { useState } from "react";
import { type AlertRule, useAlertRules, useRemoveRule } from "../../api/alerts";
import { usePools } from "../../api/queries";
import { useIsAdminEverywhere } from "../../app/useRole";
import { ConfirmDialog } from "../../components/ConfirmDialog";
import { Panel } from "../../components/Panel";
import { poolName } from "../../components/RoleFields";
import { ScrollX } from "../../components/ScrollX";
import { Answer, Empty } from "../../components/States";
import { words } from "../../lib/format";
import { RuleForm } from "./RuleForm";

/** Which alerts do what. */
export function RulesPanel() {
  const rules = useAlertRules();
  const isAdmin = useIsAdminEverywhere();
  const [edited, setEdited] = useState<AlertRule | "new" | null>(null);
  return (
    <Panel
      title="Rules"
      aside={
        isAdmin && (
          <Button size="compact-sm" onClick={() => setEdited("new")}>
            Add a rule
          </Button>
        )
      }
      flush
    >
      <Answer query={rules} height={100}>
        {(list) =>
          list.length === 0 ? (
            <div className="inset">
              <Empty title="No rule yet">Alerts are kept and shown, and set nothing off.</Empty>
            </div>
          ) : (
            <ScrollX label="Rules">
              <table className="data-table">
                <thead>
                  <tr>
                    <th scope="col">Name</th>
                    <th scope="col">Alerts with</th>
                    <th scope="col">Do</th>
                    <th scope="col">Where</th>
                    <th scope="col" className="act">
                      <span className="visually-hidden">What can be done</span>
                    </th>
                  </tr>
                </thead>
                <tbody>
                  {list.map((rule) => (
                    <Row key={rule.id} rule={rule} isAdmin={isAdmin} onEdit={() => setEdited(rule)} />
                  ))}
                </tbody>
              </table>
            </ScrollX>
          )
        }
      </Answer>
      {edited && <RuleForm rule={edited === "new" ? null : edited} onClose={() => setEdited(null)} />}
    </Panel>
  );
}

function Row({ rule, isAdmin, onEdit }: { rule: AlertRule; isAdmin: boolean; onEdit: () => void }) {
  const pools = usePools();
  const remove = useRemoveRule(rule.id);
  const [asked, setAsked] = useState(false);
  return (
    <tr>
      <td>
        {rule.name} {!rule.enabled && <span className="muted">(off)</span>}
      </td>
      <td className="mono">{rule.matchers.join(", ")}</td>
      <td>{words(rule.action)}</td>
      <td>{rule.pool_id ? poolName(pools.data?.items ?? [], rule.pool_id) : "the pool that the alert names"}</td>
      <td className="act">
        {isAdmin && (
          <>
            <Button size="compact-xs" variant="default" onClick={onEdit}>
              Change
            </Button>{" "}
            <Button size="compact-xs" variant="default" onClick={() => setAsked(true)}>
              Remove
            </Button>
          </>
        )}
        {asked && (
          <ConfirmDialog
            opened
            onClose={() => setAsked(false)}
            title={`Remove rule ${rule.name}?`}
            confirm="Remove"
            severe
            pending={remove.isPending}
            error={remove.error}
            onConfirm={() => remove.mutate(undefined, { onSuccess: () => setAsked(false) })}
          >
            Alerts that match it set nothing off any more.
          </ConfirmDialog>
        )}
      </td>
    </tr>
  );
}
