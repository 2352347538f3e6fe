import { Button, CopyButton, Modal, Textarea } from "@mantine/core";
import type { ReactNode } from "react";
import { CheckIcon, CopyIcon, WarnIcon } from "./icons";
import classes from "./SecretOnce.module.css";

interface SecretOnceProps {
  title: string;
  /** Field name to its text, each with its own copy button. */
  parts: readonly { label: string; text: string; lines?: number }[];
  /** For whom it is, and how long it is good. */
  children: ReactNode;
  onClose: () => void;
  /** Why it is not shown again. */
  once?: string;
}

/** Shows what the API tells once. It closes by its button alone, so that no stray click loses the secret. */
export function SecretOnce({ title, parts, children, onClose, once = "only its hash is kept" }: SecretOnceProps) {
  return (
    <Modal
      opened
      onClose={onClose}
      title={title}
      size="lg"
      withCloseButton={false}
      closeOnClickOutside={false}
      closeOnEscape={false}
    >
      <div className="stack">
        <p className={classes.once}>
          <WarnIcon size={15} /> Shown now and never again: {once}.
        </p>
        {parts.map((part) => (
          <Secret key={part.label} {...part} />
        ))}
        <div className="small muted">{children}</div>
        <div className="row" style={{ justifyContent: "flex-end" }}>
          <Button onClick={onClose}>I have it</Button>
        </div>
      </div>
    </Modal>
  );
}

function Secret({ label, text, lines = 1 }: { label: string; text: string; lines?: number }) {
  return (
    <div className={classes.secret}>
      <Textarea
        label={label}
        readOnly
        autosize
        minRows={lines}
        maxRows={8}
        value={text}
        onFocus={(event) => event.currentTarget.select()}
        classNames={{ input: classes.text ?? "" }}
      />
      <CopyButton value={text} timeout={4_000}>
        {({ copied, copy }) => (
          <div className="row">
            <Button
              variant="default"
              leftSection={copied ? <CheckIcon size={14} /> : <CopyIcon size={14} />}
              onClick={copy}
              aria-label={`Copy ${label.toLowerCase()}`}
            >
              {copied ? "Copied" : "Copy"}
            </Button>
            {/* Browsers give pages without TLS no clipboard. */}
            {!window.isSecureContext && (
              <span className="small muted">Without https the browser may refuse: select the text instead.</span>
            )}
          </div>
        )}
      </CopyButton>
    </div>
  );
}
