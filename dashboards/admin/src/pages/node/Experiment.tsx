import { Button } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { useEndExperiment } from "../../api/mutations";
import type { Node } from "../../api/types";
import { useMayOperate } from "../../app/useRole";
import { ConfirmDialog } from "../../components/ConfirmDialog";
import { When } from "../../components/When";
import classes from "./SettingsTable.module.css";

/** What is tried on this node alone, when it ends by itself, and the way to end it now. */
export function Experiment({ node }: { node: Node }) {
  const [opened, dialog] = useDisclosure(false);
  const end = useEndExperiment(node.id);
  const mayOperate = useMayOperate(node.pool_id);
  if (!node.experiment) return null;
  return (
    <div className={classes.note} data-tone="info">
      <span>
        Revision {node.experiment.revision} is tried on this node alone; it goes back by itself{" "}
        <When at={node.experiment.ends_at} />.
      </span>
      {mayOperate && (
        <Button size="compact-xs" variant="default" onClick={dialog.open}>
          End the experiment
        </Button>
      )}
      <ConfirmDialog
        opened={opened}
        onClose={dialog.close}
        title={`End the experiment on ${node.name}?`}
        confirm="End it"
        pending={end.isPending}
        error={end.error}
        onConfirm={() => end.mutate(undefined, { onSuccess: dialog.close })}
      >
        The node gets the settings of its pool back now.
      </ConfirmDialog>
    </div>
  );
}
