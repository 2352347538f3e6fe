import { Button, Modal, Textarea } from "@mantine/core";
import { type ReactNode, useState } from "react";
import { fieldProblem } from "../api/problem";
import { Failed } from "./States";

interface ConfirmDialogProps {
  opened: boolean;
  onClose: () => void;
  title: string;
  children: ReactNode;
  confirm: string;
  severe?: boolean;
  /** Asks for a reason that goes into the history. */
  reasonLabel?: string | undefined;
  reasonOptional?: boolean;
  /** Stands in the field when the dialog opens. */
  reasonDefault?: string;
  pending: boolean;
  error: Error | null;
  onConfirm: (reason: string) => void;
}

/** Asks before something that reaches nodes. Focus starts on the way back. */
export function ConfirmDialog(props: ConfirmDialogProps) {
  const {
    opened,
    onClose,
    title,
    children,
    confirm,
    severe = false,
    reasonLabel,
    reasonOptional = false,
    reasonDefault = "",
    pending,
    error,
    onConfirm,
  } = props;
  const [reason, setReason] = useState(reasonDefault);
  const said = fieldProblem(error, "reason") ?? fieldProblem(error, "comment");
  return (
    <Modal opened={opened} onClose={onClose} title={title} closeButtonProps={{ "aria-label": "Close" }}>
      <div className="stack">
        <div>{children}</div>
        {reasonLabel && (
          <Textarea
            label={reasonLabel}
            required={!reasonOptional}
            autosize
            minRows={2}
            value={reason}
            error={said}
            onChange={(event) => setReason(event.currentTarget.value)}
          />
        )}
        {error && said === null && <Failed error={error} />}
        <div className="row" style={{ justifyContent: "flex-end" }}>
          <Button variant="default" onClick={onClose} data-autofocus={reasonLabel ? undefined : true}>
            Cancel
          </Button>
          <Button
            {...(severe ? { color: "red" } : {})}
            loading={pending}
            disabled={reasonLabel !== undefined && !reasonOptional && !reason.trim()}
            onClick={() => onConfirm(reason.trim())}
          >
            {confirm}
          </Button>
        </div>
      </div>
    </Modal>
  );
}
