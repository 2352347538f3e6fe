import { Button, Modal, NativeSelect, TextInput } from "@mantine/core";
import { type FormEvent, useState } from "react";
import { Link } from "react-router";
import {
  type EnrolmentToken,
  useCreateEnrolmentToken,
  useEnrolmentTokens,
  useRevokeEnrolmentToken,
} from "../../api/access";
import { fieldProblem } from "../../api/problem";
import { useNodes } from "../../api/queries";
import { ConfirmDialog } from "../../components/ConfirmDialog";
import { FormProblem } from "../../components/FormProblem";
import { Panel } from "../../components/Panel";
import { ScrollX } from "../../components/ScrollX";
import { SecretOnce } from "../../components/SecretOnce";
import { Answer, Empty } from "../../components/States";
import { Tag } from "../../components/Tag";
import { accessLook } from "../../components/tones";
import { When } from "../../components/When";
import { nodeCommand } from "../../lib/access";
import { moment } from "../../lib/format";

/** Tokens with which nodes join. Each lets in one node, once. */
export function EnrolmentPanel() {
  const tokens = useEnrolmentTokens();
  const nodes = useNodes();
  const [making, setMaking] = useState(false);
  const [asked, setAsked] = useState<EnrolmentToken | null>(null);
  const nodeName = (id: string) => nodes.data?.items.find((node) => node.id === id)?.name ?? "a node that is gone";
  return (
    <Panel
      title="Enrolment tokens"
      aside={
        <Button size="compact-sm" onClick={() => setMaking(true)}>
          Let a node join
        </Button>
      }
      flush
    >
      <Answer query={tokens}>
        {(rows) =>
          rows.length === 0 ? (
            <div className="inset">
              <Empty title="No node was invited">
                A token lets one node join, once. The node then gets a token of its own, with which it comes back.
              </Empty>
            </div>
          ) : (
            <ScrollX label="Enrolment tokens">
              <table className="data-table">
                <thead>
                  <tr>
                    <th scope="col">For</th>
                    <th scope="col">Begins with</th>
                    <th scope="col">State</th>
                    <th scope="col">Made</th>
                    <th scope="col">By</th>
                    <th scope="col">Good until</th>
                    <th scope="col">Joined with it</th>
                    <th scope="col" className="act">
                      <span className="visually-hidden">What can be done</span>
                    </th>
                  </tr>
                </thead>
                <tbody>
                  {rows.map((token) => (
                    <tr key={token.id}>
                      <td>{token.note ? <strong>{token.note}</strong> : <span className="muted">not said</span>}</td>
                      <td className="mono nowrap">{token.prefix}…</td>
                      <td>
                        <Tag quiet look={accessLook(token.state)} />
                      </td>
                      <td>
                        <When at={token.created_at} />
                      </td>
                      <td>{token.created_by}</td>
                      <td>
                        <When at={token.expires_at} />
                      </td>
                      <td>
                        {token.used_by ? (
                          <Link to={`/nodes/${token.used_by}`}>{nodeName(token.used_by)}</Link>
                        ) : (
                          <span className="muted">none</span>
                        )}
                      </td>
                      <td className="act">
                        {token.state === "open" && (
                          <Button
                            size="compact-xs"
                            variant="default"
                            onClick={() => setAsked(token)}
                            aria-label={`Revoke enrolment token ${token.note || token.prefix}`}
                          >
                            Revoke
                          </Button>
                        )}
                      </td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </ScrollX>
          )
        }
      </Answer>
      {making && <LetJoin onClose={() => setMaking(false)} />}
      {asked && <Revoke token={asked} onClose={() => setAsked(null)} />}
    </Panel>
  );
}

const SPANS = [
  { value: "1", label: "1 hour" },
  { value: "24", label: "1 day" },
  { value: "168", label: "7 days" },
  { value: "720", label: "30 days" },
];

function LetJoin({ onClose }: { onClose: () => void }) {
  const create = useCreateEnrolmentToken();
  const [note, setNote] = useState("");
  const [hours, setHours] = useState("24");
  const submit = (event: FormEvent) => {
    event.preventDefault();
    create.mutate({ note: note.trim(), valid_hours: Number(hours) });
  };
  if (create.data)
    return (
      <SecretOnce
        title="Let a node join"
        parts={[
          { label: "Command", text: nodeCommand(window.location.origin, create.data.token), lines: 5 },
          { label: "Token alone", text: create.data.token },
        ]}
        onClose={onClose}
      >
        Run it where Trimtab is installed. DIR is the model's folder in Hugging Face format; THIS-MACHINE is the address
        under which the control plane and Prometheus reach the node. Good for one node until{" "}
        {moment(create.data.expires_at)}.
      </SecretOnce>
    );
  return (
    <Modal opened onClose={onClose} title="Let a node join" closeButtonProps={{ "aria-label": "Close" }}>
      <form className="stack" onSubmit={submit} noValidate>
        <FormProblem error={create.error} fields={["note", "valid_hours"]} />
        <TextInput
          label="Which machine it is for"
          description="So that you know it in the list. May stay empty."
          data-autofocus
          maxLength={128}
          value={note}
          onChange={(event) => setNote(event.currentTarget.value)}
          error={fieldProblem(create.error, "note")}
        />
        <NativeSelect
          label="Good for"
          value={hours}
          data={SPANS}
          onChange={(event) => setHours(event.currentTarget.value)}
          error={fieldProblem(create.error, "valid_hours")}
        />
        <div className="row" style={{ justifyContent: "flex-end" }}>
          <Button variant="default" onClick={onClose}>
            Cancel
          </Button>
          <Button type="submit" loading={create.isPending}>
            Show the command
          </Button>
        </div>
      </form>
    </Modal>
  );
}

function Revoke({ token, onClose }: { token: EnrolmentToken; onClose: () => void }) {
  const revoke = useRevokeEnrolmentToken();
  return (
    <ConfirmDialog
      opened
      onClose={onClose}
      title={`Revoke the token${token.note ? ` for ${token.note}` : ""}?`}
      confirm="Revoke"
      severe
      pending={revoke.isPending}
      error={revoke.error}
      onConfirm={() => revoke.mutate(token.id, { onSuccess: onClose })}
    >
      No node has joined with it, and none can any more. Nodes that are in stay in.
    </ConfirmDialog>
  );
}
