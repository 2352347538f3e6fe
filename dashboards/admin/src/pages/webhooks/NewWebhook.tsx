import { Button, Modal, NativeSelect, PasswordInput, TextInput } from "@mantine/core";
import { type FormEvent, useState } from "react";
import { fieldProblem } from "../../api/problem";
import { usePools } from "../../api/queries";
import { useCreateWebhook, type WebhookOrder } from "../../api/webhooks";
import { DecimalInput } from "../../components/DecimalInput";
import { FormProblem } from "../../components/FormProblem";
import { SecretOnce } from "../../components/SecretOnce";

const FORMATS: { value: NonNullable<WebhookOrder["format"]>; label: string; credential: string }[] = [
  { value: "standard", label: "Standard Webhooks (signed JSON)", credential: "" },
  { value: "slack", label: "Slack", credential: "" },
  { value: "teams", label: "Microsoft Teams", credential: "" },
  { value: "pagerduty", label: "PagerDuty (Events v2)", credential: "Routing key" },
  { value: "ticket", label: "Tracker (ticket)", credential: "Bearer token, if it asks for one" },
  { value: "alertmanager", label: "Alertmanager (API v2)", credential: "Bearer token, if it asks for one" },
];
const FIELDS = ["name", "url", "format", "kinds", "pool_id", "min_severity", "coalesce_s", "credential"];

/** Where events go. The answer is the secret that they are signed with. */
export function NewWebhook({ onClose }: { onClose: () => void }) {
  const pools = usePools();
  const create = useCreateWebhook();
  const [order, setOrder] = useState<WebhookOrder>({
    name: "",
    url: "",
    format: "standard",
    kinds: ["*"],
    pool_id: null,
    min_severity: "info",
    coalesce_s: 0,
    credential: null,
  });
  const [kinds, setKinds] = useState("*");
  const [gather, setGather] = useState<number | string>(0);
  const change = (part: Partial<WebhookOrder>) => setOrder({ ...order, ...part });
  const format = FORMATS.find(({ value }) => value === order.format) ?? FORMATS[0];
  const submit = (event: FormEvent) => {
    event.preventDefault();
    create.mutate({
      ...order,
      name: order.name.trim(),
      url: order.url.trim(),
      kinds: kinds.split(/[\s,]+/).filter(Boolean),
    });
  };
  if (create.data)
    return (
      <SecretOnce
        title={`Webhook ${create.data.name}`}
        parts={[{ label: "Signing secret", text: create.data.signing_secret }]}
        once="the API does not hand it out again"
        onClose={onClose}
      >
        The receiver verifies with it that a delivery is ours and untouched (docs/webhooks.md).
      </SecretOnce>
    );
  return (
    <Modal opened onClose={onClose} size="lg" title="Add a webhook" closeButtonProps={{ "aria-label": "Close" }}>
      <form className="stack" onSubmit={submit} noValidate>
        <FormProblem error={create.error} fields={FIELDS} />
        <TextInput
          label="Name"
          data-autofocus
          maxLength={64}
          value={order.name}
          onChange={(event) => change({ name: event.currentTarget.value })}
          error={fieldProblem(create.error, "name")}
        />
        <NativeSelect
          label="Format"
          value={order.format ?? "standard"}
          data={FORMATS.map(({ value, label }) => ({ value, label }))}
          onChange={(event) => change({ format: event.currentTarget.value as NonNullable<WebhookOrder["format"]> })}
          error={fieldProblem(create.error, "format")}
        />
        <TextInput
          label="Address"
          description="https://… Addresses inside the operator's network are refused unless the installation allows them."
          type="url"
          maxLength={2000}
          spellCheck={false}
          value={order.url}
          onChange={(event) => change({ url: event.currentTarget.value })}
          error={fieldProblem(create.error, "url")}
        />
        {format?.credential && (
          <PasswordInput
            label={format.credential}
            autoComplete="off"
            value={order.credential ?? ""}
            onChange={(event) => change({ credential: event.currentTarget.value || null })}
            error={fieldProblem(create.error, "credential")}
          />
        )}
        <TextInput
          label="Kinds of events"
          description="Separated by commas: rollout.*, decision.made, or * for all."
          spellCheck={false}
          value={kinds}
          onChange={(event) => setKinds(event.currentTarget.value)}
          error={fieldProblem(create.error, "kinds")}
        />
        <NativeSelect
          label="Pool"
          value={order.pool_id ?? ""}
          data={[
            { value: "", label: "All pools" },
            ...(pools.data?.items ?? []).map((pool) => ({ value: pool.id, label: pool.name })),
          ]}
          onChange={(event) => change({ pool_id: event.currentTarget.value || null })}
          error={fieldProblem(create.error, "pool_id")}
        />
        <NativeSelect
          label="Severity"
          value={order.min_severity ?? "info"}
          data={[
            { value: "info", label: "All" },
            { value: "warning", label: "Warnings and errors" },
            { value: "error", label: "Errors" },
          ]}
          onChange={(event) =>
            change({ min_severity: event.currentTarget.value as NonNullable<WebhookOrder["min_severity"]> })
          }
          error={fieldProblem(create.error, "min_severity")}
        />
        <DecimalInput
          label="Gather for (seconds)"
          description="Events of so many seconds go out as one delivery; errors go at once. 0: each by itself."
          allowDecimal={false}
          value={gather}
          onChange={(seconds) => {
            setGather(seconds);
            create.reset();
            if (typeof seconds === "number") change({ coalesce_s: seconds });
          }}
          error={typeof gather === "number" ? fieldProblem(create.error, "coalesce_s") : "a number is needed"}
        />
        <div className="row" style={{ justifyContent: "flex-end" }}>
          <Button variant="default" onClick={onClose}>
            Cancel
          </Button>
          <Button
            type="submit"
            loading={create.isPending}
            disabled={!order.name.trim() || !order.url.trim() || typeof gather !== "number"}
          >
            Add
          </Button>
        </div>
      </form>
    </Modal>
  );
}
