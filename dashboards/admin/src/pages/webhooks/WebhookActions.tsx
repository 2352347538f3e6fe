import { Button } from "@mantine/core";
import { useState } from "react";
import { useChangeWebhook, useRemoveWebhook, useRotateSecret, useTestWebhook, type Webhook } from "../../api/webhooks";
import { useIsAdminEverywhere } from "../../app/useRole";
import { ConfirmDialog } from "../../components/ConfirmDialog";
import { SecretOnce } from "../../components/SecretOnce";

type Asked = "remove" | "rotate" | "off" | null;

/** What an admin can do with a webhook; what loses something is asked for first. */
export function WebhookActions({ webhook }: { webhook: Webhook }) {
  const isAdmin = useIsAdminEverywhere();
  const [asked, setAsked] = useState<Asked>(null);
  const test = useTestWebhook(webhook.id);
  const change = useChangeWebhook(webhook.id);
  const remove = useRemoveWebhook(webhook.id);
  const rotate = useRotateSecret(webhook.id);
  if (!isAdmin) return null;
  if (rotate.data)
    return (
      <SecretOnce
        title={`New secret of ${webhook.name}`}
        parts={[{ label: "Signing secret", text: rotate.data.signing_secret }]}
        once="the API does not hand it out again"
        onClose={() => rotate.reset()}
      >
        Deliveries are signed with the one before as well for a day: change the receiver over in that time.
      </SecretOnce>
    );
  const off = webhook.disabled_at !== null;
  const close = () => setAsked(null);
  const common = { opened: true, onClose: close } as const;
  return (
    <div className="row">
      <Button size="compact-sm" variant="default" loading={test.isPending} disabled={off} onClick={() => test.mutate()}>
        Test
      </Button>
      <Button
        size="compact-sm"
        variant="default"
        loading={change.isPending}
        onClick={() => (off ? change.mutate({ enabled: true }) : setAsked("off"))}
      >
        {off ? "Turn on" : "Turn off"}
      </Button>
      <Button size="compact-sm" variant="default" onClick={() => setAsked("rotate")}>
        New secret
      </Button>
      <Button size="compact-sm" variant="default" onClick={() => setAsked("remove")}>
        Remove
      </Button>
      {asked === "off" && (
        <ConfirmDialog
          {...common}
          title={`Turn ${webhook.name} off?`}
          confirm="Turn off"
          pending={change.isPending}
          error={change.error}
          onConfirm={() => change.mutate({ enabled: false }, { onSuccess: close })}
        >
          Nothing is sent to it until it is turned on again.
        </ConfirmDialog>
      )}
      {asked === "rotate" && (
        <ConfirmDialog
          {...common}
          title="Make a new signing secret?"
          confirm="Make it"
          pending={rotate.isPending}
          error={rotate.error}
          onConfirm={() => rotate.mutate(undefined, { onSuccess: close })}
        >
          The present one stays good beside it for a day.
        </ConfirmDialog>
      )}
      {asked === "remove" && (
        <ConfirmDialog
          {...common}
          title={`Remove ${webhook.name}?`}
          confirm="Remove"
          severe
          pending={remove.isPending}
          error={remove.error}
          onConfirm={() => remove.mutate(undefined, { onSuccess: close })}
        >
          Its deliveries and their log go with it; what waits is not sent. The history keeps that it was there.
        </ConfirmDialog>
      )}
    </div>
  );
}
