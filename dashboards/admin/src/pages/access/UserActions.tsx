import { ActionIcon, Menu } from "@mantine/core";
import { useState } from "react";
import { type User, useChangeUser, useResetUser, useTokens, useWebSessions } from "../../api/access";
import { useNow } from "../../app/useNow";
import { ConfirmDialog } from "../../components/ConfirmDialog";
import { DotsIcon } from "../../components/icons";
import { tokenState, whatEnds } from "../../lib/access";
import { InvitationLink } from "./InvitationLink";
import { ChangeRoles } from "./UserForm";

type Asked = "roles" | "reset" | "disable" | "enable";

/** What an admin can do with a user. One's own row leaves out what would shut oneself out. */
export function UserActions({ user, own }: { user: User; own: boolean }) {
  const [asked, setAsked] = useState<Asked | null>(null);
  const close = () => setAsked(null);
  const disabled = user.state === "disabled";
  return (
    <>
      <Menu position="bottom-end" width={210}>
        <Menu.Target>
          <ActionIcon aria-label={`What can be done with ${user.name}`} size={24}>
            <DotsIcon />
          </ActionIcon>
        </Menu.Target>
        <Menu.Dropdown>
          <Menu.Item onClick={() => setAsked("roles")}>Change roles</Menu.Item>
          {!own && !disabled && (
            <Menu.Item onClick={() => setAsked("reset")}>
              {user.state === "invited" ? "New invitation link" : "Reset password"}
            </Menu.Item>
          )}
          {!own &&
            (disabled ? (
              <Menu.Item onClick={() => setAsked("enable")}>Enable</Menu.Item>
            ) : (
              <Menu.Item style={{ color: "var(--bad)" }} onClick={() => setAsked("disable")}>
                Disable
              </Menu.Item>
            ))}
        </Menu.Dropdown>
      </Menu>
      {asked === "roles" && <ChangeRoles user={user} own={own} onClose={close} />}
      {asked === "reset" && <Reset user={user} onClose={close} />}
      {(asked === "disable" || asked === "enable") && <Switch user={user} off={asked === "disable"} onClose={close} />}
    </>
  );
}

/** What of theirs is open now. */
function useOpen(user: User): string {
  const now = useNow();
  const sessions = useWebSessions("all").data ?? [];
  const tokens = useTokens("all").data ?? [];
  return whatEnds(
    sessions.filter((one) => one.name === user.name).length,
    tokens.filter((one) => one.owner === user.name && tokenState(one, now) === "active").length,
  );
}

function Reset({ user, onClose }: { user: User; onClose: () => void }) {
  const reset = useResetUser(user.id);
  const open = useOpen(user);
  if (reset.data) return <InvitationLink invitation={reset.data} onClose={onClose} />;
  const invited = user.state === "invited";
  return (
    <ConfirmDialog
      opened
      onClose={onClose}
      title={invited ? `New link for ${user.name}?` : `Reset ${user.name}'s password?`}
      confirm={invited ? "Make a new link" : "Reset"}
      severe={!invited}
      pending={reset.isPending}
      error={reset.error}
      onConfirm={() => reset.mutate()}
    >
      {invited
        ? "The link from before ends at once. The new one is shown once, and is good for 72 hours."
        : `The password ends at once; ${open}. You get a link, good for 72 hours, with which ${user.name} chooses another.`}
    </ConfirmDialog>
  );
}

function Switch({ user, off, onClose }: { user: User; off: boolean; onClose: () => void }) {
  const change = useChangeUser(user.id);
  const open = useOpen(user);
  return (
    <ConfirmDialog
      opened
      onClose={onClose}
      title={`${off ? "Disable" : "Enable"} ${user.name}?`}
      confirm={off ? "Disable" : "Enable"}
      severe={off}
      pending={change.isPending}
      error={change.error}
      onConfirm={() => change.mutate({ disabled: off }, { onSuccess: onClose })}
    >
      {off
        ? `${user.name} is out at once: ${open}, and links that were not used end too. What they did stays in the history.`
        : `${user.name} can sign in again with the password from before. Sessions and tokens that ended stay ended.`}
    </ConfirmDialog>
  );
}
