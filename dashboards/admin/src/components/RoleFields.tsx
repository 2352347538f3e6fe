import { ActionIcon, Button, NativeSelect } from "@mantine/core";
import { usePools } from "../api/queries";
import type { Pool } from "../api/types";
import { ROLE_HELP, ROLES, type Role } from "../lib/access";
import { words } from "../lib/format";
import { CrossIcon } from "./icons";
import classes from "./RoleFields.module.css";

interface RoleSelectProps {
  label: string;
  value: Role;
  onChange: (role: Role) => void;
  roles?: readonly Role[];
  error?: string | null;
}

/** One role, and what it allows. */
export function RoleSelect({ label, value, onChange, roles = ROLES, error = null }: RoleSelectProps) {
  return (
    <NativeSelect
      label={label}
      description={ROLE_HELP[value]}
      inputWrapperOrder={["label", "input", "description", "error"]}
      value={value}
      data={roles.map((role) => ({ value: role, label: words(role) }))}
      onChange={(event) => onChange(event.currentTarget.value as Role)}
      error={error}
    />
  );
}

export type PoolRoles = Readonly<Record<string, Role>>;

interface PoolRolesFieldProps {
  value: PoolRoles;
  onChange: (pools: PoolRoles) => void;
  error: string | null;
}

/** More than the role everywhere, in single pools. */
export function PoolRolesField({ value, onChange, error }: PoolRolesFieldProps) {
  const pools = usePools();
  const all = pools.data?.items ?? [];
  const free = all.filter((pool) => !(pool.id in value));
  const without = (id: string) => onChange(Object.fromEntries(Object.entries(value).filter(([one]) => one !== id)));
  return (
    <fieldset className={classes.pools}>
      <legend>More in single pools</legend>
      {Object.entries(value).map(([id, role]) => {
        const name = poolName(all, id);
        return (
          <div key={id} className={classes.row}>
            <span className="ellipsis">{name}</span>
            <NativeSelect
              size="xs"
              aria-label={`Role in ${name}`}
              value={role}
              data={ROLES.map((one) => ({ value: one, label: words(one) }))}
              onChange={(event) => onChange({ ...value, [id]: event.currentTarget.value as Role })}
            />
            <ActionIcon aria-label={`No more in ${name}`} onClick={() => without(id)}>
              <CrossIcon size={14} />
            </ActionIcon>
          </div>
        );
      })}
      {free.length > 0 && (
        <div className="row">
          {free.slice(0, 6).map((pool) => (
            <Button
              key={pool.id}
              size="compact-xs"
              variant="default"
              onClick={() => onChange({ ...value, [pool.id]: "operator" })}
            >
              + {pool.name}
            </Button>
          ))}
          {free.length > 6 && (
            <NativeSelect
              size="xs"
              aria-label="Another pool"
              value=""
              data={[
                { value: "", label: "Another pool…" },
                ...free.slice(6).map((pool) => ({ value: pool.id, label: pool.name })),
              ]}
              onChange={(event) =>
                event.currentTarget.value && onChange({ ...value, [event.currentTarget.value]: "operator" })
              }
            />
          )}
        </div>
      )}
      {pools.data && all.length === 0 && <p className="small muted">There is no pool yet: the first node makes one.</p>}
      {error && (
        <p role="alert" className={classes.error}>
          {error}
        </p>
      )}
    </fieldset>
  );
}

/** A pool's name, or its id where it is gone. */
export function poolName(pools: readonly Pool[], id: string): string {
  return pools.find((pool) => pool.id === id)?.name ?? id;
}
