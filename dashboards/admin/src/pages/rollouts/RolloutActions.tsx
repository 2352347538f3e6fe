import { Button, Tooltip } from "@mantine/core";
import { type ComponentType, useState } from "react";
import { useNavigate } from "react-router";
import { type RolloutVerb, useRolloutVerb } from "../../api/mutations";
import type { Rollout } from "../../api/types";
import { useMayOperate } from "../../app/useRole";
import { ConfirmDialog } from "../../components/ConfirmDialog";
import { ArrowIcon, BackIcon, PauseIcon, PlayIcon, StopIcon } from "../../components/icons";
import { words } from "../../lib/format";
import { consequence, verbsFor } from "../../lib/rollouts";

const ICONS: Record<RolloutVerb, ComponentType<{ size?: number }>> = {
  pause: PauseIcon,
  resume: PlayIcon,
  promote: ArrowIcon,
  abort: StopIcon,
  rollback: BackIcon,
};

/** What can be asked of this rollout now. Each question says how far it reaches before it is asked. */
export function RolloutActions({ rollout }: { rollout: Rollout }) {
  const [asked, setAsked] = useState<RolloutVerb | null>(null);
  const change = useRolloutVerb(rollout.id);
  const mayOperate = useMayOperate(rollout.pool_id);
  const navigate = useNavigate();
  const verbs = verbsFor(rollout);
  const told = asked ? consequence(asked, rollout) : null;
  const close = () => {
    setAsked(null);
    change.reset();
  };
  const show = (answer: Rollout) => {
    close();
    if (answer.id !== rollout.id) void navigate(`/rollouts/${answer.id}`);
  };
  return (
    <>
      {verbs.map((verb) => {
        const Icon = ICONS[verb];
        return (
          <Tooltip key={verb} label="Operators of this pool may do this" disabled={mayOperate}>
            <Button
              variant={verb === "resume" ? "filled" : "default"}
              leftSection={<Icon size={14} />}
              disabled={!mayOperate}
              onClick={() => setAsked(verb)}
            >
              {words(verb === "rollback" ? "roll_back" : verb)}
            </Button>
          </Tooltip>
        );
      })}
      {asked && told && (
        <ConfirmDialog
          opened
          onClose={close}
          title={told.title}
          confirm={words(asked === "rollback" ? "roll_back" : asked)}
          severe={told.severe}
          pending={change.isPending}
          error={change.error}
          reasonLabel="Reason (stands in the timeline)"
          reasonOptional
          onConfirm={(reason) => change.mutate({ verb: asked, reason }, { onSuccess: show })}
        >
          {told.text}
        </ConfirmDialog>
      )}
    </>
  );
}
