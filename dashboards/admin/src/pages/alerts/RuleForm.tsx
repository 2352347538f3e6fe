import { Button, Modal, NativeSelect, Switch, Textarea, TextInput } from "@mantine/core";
import { type FormEvent, useState } from "react";
import { type AlertRule, type AlertRuleOrder, useSaveRule } from "../../api/alerts";
import { fieldProblem } from "../../api/problem";
import { usePools } from "../../api/queries";
import { FormProblem } from "../../components/FormProblem";

const ACTIONS: { value: AlertRuleOrder["action"]; label: string }[] = [
  { value: "pause", label: "Pause the rollout while it fires" },
  { value: "freeze", label: "Freeze the pool while it fires" },
  { value: "roll_back", label: "Roll the last change back" },
  { value: "protect", label: "Protect the pool while it fires" },
];
const FIELDS = ["name", "matchers", "action", "pool_id"];

/** A rule: which alerts, and what they set off. */
export function RuleForm({ rule, onClose }: { rule: AlertRule | null; onClose: () => void }) {
  const pools = usePools();
  const save = useSaveRule(rule?.id ?? null);
  const [name, setName] = useState(rule?.name ?? "");
  const [matchers, setMatchers] = useState(rule?.matchers.join("\n") ?? 'severity="page"');
  const [action, setAction] = useState<AlertRuleOrder["action"]>(rule?.action ?? "pause");
  const [poolId, setPoolId] = useState(rule?.pool_id ?? "");
  const [enabled, setEnabled] = useState(rule?.enabled ?? true);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    const lines = matchers.split("\n").map((line) => line.trim());
    save.mutate(
      { name: name.trim(), matchers: lines.filter(Boolean), action, pool_id: poolId || null, enabled },
      { onSuccess: onClose },
    );
  };
  return (
    <Modal
      opened
      onClose={onClose}
      title={rule ? `Rule ${rule.name}` : "Add a rule"}
      closeButtonProps={{ "aria-label": "Close" }}
    >
      <form className="stack" onSubmit={submit} noValidate>
        <FormProblem error={save.error} fields={FIELDS} />
        <TextInput
          label="Name"
          data-autofocus
          maxLength={64}
          value={name}
          onChange={(event) => setName(event.currentTarget.value)}
          error={fieldProblem(save.error, "name")}
        />
        <Textarea
          label="Alerts with"
          description={'As in Alertmanager, one a line: severity="page", alertname=~"Pool.*". All must match.'}
          autosize
          minRows={2}
          spellCheck={false}
          value={matchers}
          onChange={(event) => setMatchers(event.currentTarget.value)}
          error={fieldProblem(save.error, "matchers")}
        />
        <NativeSelect
          label="Do"
          value={action}
          data={ACTIONS}
          onChange={(event) => setAction(event.currentTarget.value as AlertRuleOrder["action"])}
          error={fieldProblem(save.error, "action")}
        />
        <NativeSelect
          label="Where"
          value={poolId}
          data={[
            { value: "", label: "In the pool that the alert names" },
            ...(pools.data?.items ?? []).map((pool) => ({ value: pool.id, label: `In pool ${pool.name}` })),
          ]}
          onChange={(event) => setPoolId(event.currentTarget.value)}
          error={fieldProblem(save.error, "pool_id")}
        />
        <Switch label="In force" checked={enabled} onChange={(event) => setEnabled(event.currentTarget.checked)} />
        <div className="row" style={{ justifyContent: "flex-end" }}>
          <Button variant="default" onClick={onClose}>
            Cancel
          </Button>
          <Button type="submit" loading={save.isPending} disabled={!name.trim()}>
            Save
          </Button>
        </div>
      </form>
    </Modal>
  );
}
