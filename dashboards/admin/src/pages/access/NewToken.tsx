import { Button, Modal, NativeSelect, TextInput } from "@mantine/core";
import { type FormEvent, useState } from "react";
import { useCreateToken, type Whose } from "../../api/access";
import { fieldProblem } from "../../api/problem";
import { usePools, useSession } from "../../api/queries";
import { FormProblem } from "../../components/FormProblem";
import { poolName, RoleSelect } from "../../components/RoleFields";
import { SecretOnce } from "../../components/SecretOnce";
import { expiryOf, LIFETIMES, ROLES, type Role, roleIn, rolesUpTo } from "../../lib/access";
import { moment } from "../../lib/format";

const FIELDS = ["name", "role", "pool_id", "expires_at"];

/** A token of one's own, which acts under one's name, or of a service, which has a name of its own. */
export function NewToken({ whose, onClose }: { whose: Whose; onClose: () => void }) {
  const session = useSession();
  const pools = usePools();
  const create = useCreateToken(whose);
  const [name, setName] = useState("");
  const [role, setRole] = useState<Role>("viewer");
  const [poolId, setPoolId] = useState("");
  const [lifetime, setLifetime] = useState("90");

  const mine = session.data;
  const most = mine ? (poolId ? roleIn(mine, poolId) : mine.role) : role;
  const submit = (event: FormEvent) => {
    event.preventDefault();
    create.mutate({ name: name.trim(), role, pool_id: poolId || null, expires_at: expiryOf(lifetime, Date.now()) });
  };
  if (create.data)
    return (
      <SecretOnce
        title={`Token ${create.data.name}`}
        parts={[
          { label: "Token", text: create.data.token },
          {
            label: "Use from the command line",
            text: `TRIMTAB_URL=${window.location.origin} TRIMTAB_TOKEN=${create.data.token} trimtab status`,
            lines: 2,
          },
        ]}
        onClose={onClose}
      >
        It acts as {create.data.role}
        {create.data.pool_id
          ? ` in pool ${poolName(pools.data?.items ?? [], create.data.pool_id)}, elsewhere it reads`
          : ""}
        {create.data.owner ? `, under the name ${create.data.owner}` : `, under the name ${create.data.name}`}, until{" "}
        {create.data.expires_at ? moment(create.data.expires_at) : "somebody revokes it"}.
      </SecretOnce>
    );
  return (
    <Modal
      opened
      onClose={onClose}
      title={whose === "all" ? "New token for a service" : "New token of yours"}
      closeButtonProps={{ "aria-label": "Close" }}
    >
      <form className="stack" onSubmit={submit} noValidate>
        <FormProblem error={create.error} fields={FIELDS} />
        <TextInput
          label="Name"
          description={
            whose === "all"
              ? "Which service it is for. What it does stands in the history under this name."
              : "Where it will be used. What it does stands in the history under your own name."
          }
          data-autofocus
          maxLength={128}
          value={name}
          onChange={(event) => setName(event.currentTarget.value)}
          error={fieldProblem(create.error, "name")}
        />
        <RoleSelect
          label="Role"
          roles={whose === "all" ? ROLES : rolesUpTo(most)}
          value={role}
          onChange={setRole}
          error={fieldProblem(create.error, "role")}
        />
        <NativeSelect
          label="Where the role counts"
          value={poolId}
          data={[
            { value: "", label: "Everywhere" },
            ...(pools.data?.items ?? []).map((pool) => ({ value: pool.id, label: `Only in pool ${pool.name}` })),
          ]}
          onChange={(event) => setPoolId(event.currentTarget.value)}
          error={fieldProblem(create.error, "pool_id")}
        />
        <NativeSelect
          label="Ends after"
          value={lifetime}
          data={[...LIFETIMES]}
          onChange={(event) => setLifetime(event.currentTarget.value)}
          error={fieldProblem(create.error, "expires_at")}
        />
        <div className="row" style={{ justifyContent: "flex-end" }}>
          <Button variant="default" onClick={onClose}>
            Cancel
          </Button>
          <Button type="submit" loading={create.isPending} disabled={!name.trim()}>
            Create token
          </Button>
        </div>
      </form>
    </Modal>
  );
}
