import { Button, Tooltip } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { useNavigate } from "react-router";
import { useCreateRollout } from "../../api/mutations";
import { useKnobs } from "../../api/queries";
import type { Pool, WhatIf } from "../../api/types";
import { useMayOperate } from "../../app/useRole";
import { ConfirmDialog } from "../../components/ConfirmDialog";
import { RolloutIcon } from "../../components/icons";
import { SettingsDiff } from "../../components/SettingsDiff";
import { plural } from "../../lib/format";
import { inWords } from "../../lib/whatIf";

/** Makes the what-if a rollout that waits for somebody else's approval. `answer` is undefined while it is not the present one. */
export function Propose({ pool, answer }: { pool: Pool; answer: WhatIf | undefined }) {
  const [opened, dialog] = useDisclosure(false);
  const mayOperate = useMayOperate(pool.id);
  const why = whyNot(answer, mayOperate);
  return (
    <>
      <Tooltip label={why} disabled={why === null}>
        <Button leftSection={<RolloutIcon size={14} />} disabled={why !== null} onClick={dialog.open}>
          Save as proposal
        </Button>
      </Tooltip>
      {opened && answer && <Dialog pool={pool} answer={answer} onClose={dialog.close} />}
    </>
  );
}

function Dialog({ pool, answer, onClose }: { pool: Pool; answer: WhatIf; onClose: () => void }) {
  const create = useCreateRollout();
  const knobs = useKnobs();
  const navigate = useNavigate();
  const settings = Object.fromEntries(Object.entries(answer.changes).map(([name, [, to]]) => [name, to ?? ""]));
  return (
    <ConfirmDialog
      opened
      onClose={onClose}
      title={`Propose this to ${pool.name}?`}
      confirm="Save proposal"
      reasonLabel="Reason"
      reasonDefault={inWords(answer)}
      pending={create.isPending}
      error={create.error}
      onConfirm={(reason) =>
        create.mutate(
          { pool_id: pool.id, settings, reason, propose: true },
          { onSuccess: (rollout) => void navigate(`/rollouts/${rollout.id}`) },
        )
      }
    >
      <div className="stack">
        <SettingsDiff changes={answer.changes} knobs={knobs.data ?? []} />
        <p>
          It waits until somebody else approves it, also where the policy asks for nobody. Then it reaches{" "}
          {plural(pool.nodes, "node")}, canary first.
        </p>
      </div>
    </ConfirmDialog>
  );
}

function whyNot(answer: WhatIf | undefined, mayOperate: boolean): string | null {
  if (!mayOperate) return "Operators of this pool may do this";
  if (!answer) return "Waits for an answer of the model";
  if (Object.keys(answer.changes).length === 0) return "No knob differs from what is in force";
  return null;
}
