import { Button, Modal } from "@mantine/core";
import { usePolicyVersions } from "../../api/policies";
import type { PolicyNow } from "../../api/types";
import { contested, type Document, differences } from "../../lib/policy";
import { ChangeList } from "./ChangeList";
import type { Draft } from "./usePolicyDraft";

interface ConflictDialogProps {
  draft: Draft;
  newest: PolicyNow;
  poolId: string;
  onClose: () => void;
}

/** Somebody saved in between. Nothing that was typed is lost: both sides are shown, and the changes go on top or wait. */
export function ConflictDialog({ draft, newest, poolId, onClose }: ConflictDialogProps) {
  const versions = usePolicyVersions(poolId);
  const who = versions.data?.find(({ version }) => version === newest.version)?.created_by ?? "Somebody";
  const theirs = differences(draft.base.document, newest.document as unknown as Document);
  const both = contested(draft.changes, theirs);
  return (
    <Modal
      opened
      onClose={onClose}
      size="lg"
      title={`${who} saved version ${newest.version} in between`}
      closeButtonProps={{ "aria-label": "Close" }}
    >
      <div className="stack">
        <p>
          Yours was made from version {draft.base.version}. Nothing of it was saved, and nothing is lost.
          {both.size > 0 && " What both have changed is marked: on top, yours would count."}
        </p>
        <h3>What they changed</h3>
        <ChangeList changes={theirs} />
        <h3>What you changed</h3>
        <ChangeList changes={draft.changes} marked={both} />
        <div className="row" style={{ justifyContent: "flex-end" }}>
          <Button variant="default" onClick={onClose} data-autofocus>
            Keep editing
          </Button>
          <Button
            variant="default"
            onClick={() => {
              draft.take(draft.base.document);
              onClose();
            }}
          >
            Take theirs, drop mine
          </Button>
          <Button
            onClick={() => {
              draft.rebase(newest);
              onClose();
            }}
          >
            Put mine on top
          </Button>
        </div>
      </div>
    </Modal>
  );
}
