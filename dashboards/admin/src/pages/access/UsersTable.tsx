import { Button } from "@mantine/core";
import { useState } from "react";
import { type User, useUsers, useWebSessions } from "../../api/access";
import { usePools, useSession } from "../../api/queries";
import { Panel } from "../../components/Panel";
import { poolName } from "../../components/RoleFields";
import { ScrollX } from "../../components/ScrollX";
import { Answer, Empty } from "../../components/States";
import { Chip, Tag } from "../../components/Tag";
import { accessLook } from "../../components/tones";
import { When } from "../../components/When";
import { number, words } from "../../lib/format";
import { UserActions } from "./UserActions";
import { InviteUser } from "./UserForm";

/** Everybody who may sign in by name and password, or could before. */
export function UsersTable() {
  const users = useUsers();
  const [inviting, setInviting] = useState(false);
  return (
    <Panel
      title="Users"
      aside={
        <Button size="compact-sm" onClick={() => setInviting(true)}>
          Invite a user
        </Button>
      }
      flush
    >
      <Answer query={users}>
        {(rows) =>
          rows.length === 0 ? (
            <div className="inset">
              <Empty title="Nobody has a name here yet">
                Everybody who holds the installation's token is the same admin in the history. Set up the first admin
                from the account menu, then invite others.
              </Empty>
            </div>
          ) : (
            <ScrollX label="Users">
              <table className="data-table">
                <thead>
                  <tr>
                    <th scope="col">Name</th>
                    <th scope="col">Role</th>
                    <th scope="col">More in</th>
                    <th scope="col">State</th>
                    <th scope="col">Last sign-in</th>
                    <th scope="col" className="right">
                      Sessions
                    </th>
                    <th scope="col">Made by</th>
                    <th scope="col" className="act">
                      <span className="visually-hidden">What can be done</span>
                    </th>
                  </tr>
                </thead>
                <tbody>
                  {rows.map((user) => (
                    <Row key={user.id} user={user} />
                  ))}
                </tbody>
              </table>
            </ScrollX>
          )
        }
      </Answer>
      {inviting && <InviteUser onClose={() => setInviting(false)} />}
    </Panel>
  );
}

function Row({ user }: { user: User }) {
  const session = useSession();
  const sessions = useWebSessions("all");
  const pools = usePools();
  const own = session.data?.user_id === user.id;
  const open = sessions.data?.filter((one) => one.name === user.name).length;
  const more = Object.entries(user.pools);
  return (
    <tr>
      <td className="nowrap">
        <strong>{user.name}</strong> {own && <Chip tone="accent">you</Chip>}
      </td>
      <td>{words(user.role)}</td>
      <td>
        {more.length === 0 ? (
          <span className="muted">–</span>
        ) : (
          <span className="row" style={{ gap: 4 }}>
            {more.map(([id, role]) => (
              <Chip key={id}>
                {poolName(pools.data?.items ?? [], id)}: {role}
              </Chip>
            ))}
          </span>
        )}
      </td>
      <td>
        <Tag quiet look={accessLook(user.state)} />
      </td>
      <td>{user.last_sign_in_at ? <When at={user.last_sign_in_at} /> : <span className="muted">never</span>}</td>
      <td className="right">{number(open)}</td>
      <td>{own && user.created_by === user.name ? <span className="muted">set-up</span> : user.created_by}</td>
      <td className="act">
        <UserActions user={user} own={own} />
      </td>
    </tr>
  );
}
