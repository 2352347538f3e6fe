import { Button, Modal, TextInput } from "@mantine/core";
import { type FormEvent, useState } from "react";
import { type User, useChangeUser, useCreateUser } from "../../api/access";
import { fieldProblem } from "../../api/problem";
import { FormProblem } from "../../components/FormProblem";
import { type PoolRoles, PoolRolesField, RoleSelect } from "../../components/RoleFields";
import type { Role } from "../../lib/access";
import { InvitationLink } from "./InvitationLink";

/** A new user: who they are and what they may do. The answer is their link. */
export function InviteUser({ onClose }: { onClose: () => void }) {
  const create = useCreateUser();
  const [name, setName] = useState("");
  const [role, setRole] = useState<Role>("viewer");
  const [pools, setPools] = useState<PoolRoles>({});
  const submit = (event: FormEvent) => {
    event.preventDefault();
    create.mutate({ name: name.trim(), role, pools });
  };
  if (create.data) return <InvitationLink invitation={create.data} onClose={onClose} />;
  return (
    <Modal opened onClose={onClose} title="Invite a user" closeButtonProps={{ "aria-label": "Close" }}>
      <form className="stack" onSubmit={submit} noValidate>
        <FormProblem error={create.error} fields={["name", "role", "pools"]} />
        <TextInput
          label="Name"
          description="Stands in the history and never changes. Lower case; an e-mail address will do."
          autoCapitalize="none"
          autoComplete="off"
          spellCheck={false}
          data-autofocus
          maxLength={64}
          value={name}
          onChange={(event) => setName(event.currentTarget.value)}
          error={fieldProblem(create.error, "name")}
        />
        <RoleSelect
          label="Role everywhere"
          value={role}
          onChange={setRole}
          error={fieldProblem(create.error, "role")}
        />
        <PoolRolesField value={pools} onChange={setPools} error={fieldProblem(create.error, "pools")} />
        <Buttons
          onClose={onClose}
          pending={create.isPending}
          disabled={!name.trim()}
          confirm="Create and show the link"
        />
      </form>
    </Modal>
  );
}

/** What a user may do, from their next request on. */
export function ChangeRoles({ user, own, onClose }: { user: User; own: boolean; onClose: () => void }) {
  const change = useChangeUser(user.id);
  const [role, setRole] = useState<Role>(user.role);
  const [pools, setPools] = useState<PoolRoles>(user.pools);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    change.mutate({ role, pools }, { onSuccess: onClose });
  };
  return (
    <Modal opened onClose={onClose} title={`Roles of ${user.name}`} closeButtonProps={{ "aria-label": "Close" }}>
      <form className="stack" onSubmit={submit} noValidate>
        <FormProblem error={change.error} fields={["role", "pools"]} />
        {own ? (
          <p className="small muted">You are {user.role}. Nobody takes their own role away: another admin does it.</p>
        ) : (
          <RoleSelect
            label="Role everywhere"
            value={role}
            onChange={setRole}
            error={fieldProblem(change.error, "role")}
          />
        )}
        <PoolRolesField value={pools} onChange={setPools} error={fieldProblem(change.error, "pools")} />
        <p className="small muted">
          Counts from their next request on, also for their API tokens, which never have more than they have themselves.
        </p>
        <Buttons onClose={onClose} pending={change.isPending} disabled={false} confirm="Save" />
      </form>
    </Modal>
  );
}

interface ButtonsProps {
  onClose: () => void;
  pending: boolean;
  disabled: boolean;
  confirm: string;
}

function Buttons({ onClose, pending, disabled, confirm }: ButtonsProps) {
  return (
    <div className="row" style={{ justifyContent: "flex-end" }}>
      <Button variant="default" onClick={onClose}>
        Cancel
      </Button>
      <Button type="submit" loading={pending} disabled={disabled}>
        {confirm}
      </Button>
    </div>
  );
}
