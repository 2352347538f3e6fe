import { Button } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { useFreeze, useUnfreeze } from "../api/mutations";
import type { Pool } from "../api/types";
import { useMayOperate } from "../app/useRole";
import { plural } from "../lib/format";
import { ConfirmDialog } from "./ConfirmDialog";
import { SnowIcon } from "./icons";

/** Stops or allows changes to a pool. Frozen pools can still roll back. */
export function FreezeControl({ pool }: { pool: Pool }) {
  const [opened, dialog] = useDisclosure(false);
  const freeze = useFreeze(pool.id);
  const unfreeze = useUnfreeze(pool.id);
  const mayOperate = useMayOperate(pool.id);
  const frozen = pool.frozen !== null;
  return (
    <>
      <Button
        variant="default"
        leftSection={<SnowIcon size={14} />}
        disabled={!mayOperate}
        onClick={dialog.open}
        aria-label={`${frozen ? "Unfreeze" : "Freeze"} pool ${pool.name}`}
      >
        {frozen ? "Unfreeze" : "Freeze"}
      </Button>
      {frozen ? (
        <ConfirmDialog
          opened={opened}
          onClose={dialog.close}
          title={`Unfreeze ${pool.name}?`}
          confirm="Unfreeze"
          pending={unfreeze.isPending}
          error={unfreeze.error}
          onConfirm={() => unfreeze.mutate(undefined, { onSuccess: dialog.close })}
        >
          From the next decision on, Trimtab may change {plural(pool.nodes, "node")} again, as far as the policy allows.
        </ConfirmDialog>
      ) : (
        <ConfirmDialog
          opened={opened}
          onClose={dialog.close}
          title={`Freeze ${pool.name}?`}
          confirm="Freeze"
          reasonLabel="Reason"
          pending={freeze.isPending}
          error={freeze.error}
          onConfirm={(reason) => freeze.mutate(reason, { onSuccess: dialog.close })}
        >
          No new change reaches the {plural(pool.nodes, "node")} of this pool until somebody unfreezes it. Rollbacks
          stay possible, and decisions are still recorded.
        </ConfirmDialog>
      )}
    </>
  );
}
