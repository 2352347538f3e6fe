import { Tabs } from "@mantine/core";
import { Link, useSearchParams } from "react-router";
import { useSession } from "../../api/queries";
import { PageHeader } from "../../components/PageHeader";
import { Empty } from "../../components/States";
import { ROLE_HELP, ROLES } from "../../lib/access";
import { words } from "../../lib/format";
import classes from "./Access.module.css";
import { EnrolmentPanel } from "./EnrolmentPanel";
import { SessionsTable } from "./SessionsTable";
import { TokensTable } from "./TokensTable";
import { UsersTable } from "./UsersTable";

const TABS = ["users", "sessions", "tokens", "nodes"] as const;

/** Who may come in, and how. For admins; others are told whom to ask. */
export function AccessPage() {
  const session = useSession();
  const [search, setSearch] = useSearchParams();
  const asked = search.get("tab") ?? "users";
  const tab = TABS.find((one) => one === asked) ?? "users";
  if (session.data?.role !== "admin")
    return (
      <>
        <PageHeader title="Access" />
        <Empty title="Admins decide who may come in">
          You are {session.data?.role ?? "nobody"}. Ask an admin for another role, or a way in for somebody else. Your
          own password, sessions and tokens are on <Link to="/account">your account's page</Link>.
        </Empty>
      </>
    );
  return (
    <>
      <PageHeader
        title="Access"
        note="Who may come in, and what they may do. A change counts from the next request on, and stands in the history."
      />
      <Tabs
        value={tab}
        onChange={(next) => setSearch(next === "users" || next === null ? {} : { tab: next }, { replace: true })}
        keepMounted={false}
        classNames={{ list: classes.tabs ?? "" }}
      >
        <Tabs.List aria-label="Access">
          {TABS.map((one) => (
            <Tabs.Tab key={one} value={one}>
              {words(one)}
            </Tabs.Tab>
          ))}
        </Tabs.List>
        <Tabs.Panel value="users">
          <div className="stack">
            <UsersTable />
            <Roles />
          </div>
        </Tabs.Panel>
        <Tabs.Panel value="sessions">
          <SessionsTable whose="all" />
        </Tabs.Panel>
        <Tabs.Panel value="tokens">
          <TokensTable whose="all" />
        </Tabs.Panel>
        <Tabs.Panel value="nodes">
          <EnrolmentPanel />
        </Tabs.Panel>
      </Tabs>
    </>
  );
}

function Roles() {
  return (
    <dl className={classes.roles}>
      {ROLES.map((role) => (
        <div key={role}>
          <dt>{words(role)}</dt>
          <dd>{ROLE_HELP[role]}</dd>
        </div>
      ))}
    </dl>
  );
}
