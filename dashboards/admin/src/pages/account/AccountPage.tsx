import { usePools, useSession } from "../../api/queries";
import type { Session } from "../../api/types";
import { PageHeader } from "../../components/PageHeader";
import { Panel } from "../../components/Panel";
import { poolName } from "../../components/RoleFields";
import { Answer, Empty } from "../../components/States";
import { ROLE_HELP } from "../../lib/access";
import { words } from "../../lib/format";
import { SessionsTable } from "../access/SessionsTable";
import { TokensTable } from "../access/TokensTable";
import classes from "./Account.module.css";
import { ChangePassword } from "./ChangePassword";

/** Oneself: what one may do, the password, where one is signed in, and the tokens that act under one's name. */
export function AccountPage() {
  const session = useSession();
  return (
    <>
      <PageHeader title="Your account" />
      <Answer query={session}>{(data) => (data ? <Account session={data} /> : null)}</Answer>
    </>
  );
}

function Account({ session }: { session: Session }) {
  if (!session.user_id)
    return (
      <Panel title={session.name}>
        <Empty title="You are signed in by a token, not as a user">
          {ROLE_HELP[session.role]} The history says {session.name} for what you do. A token has no password and no
          account; sign in by name and password to find yours here.
        </Empty>
      </Panel>
    );
  return (
    <div className="stack">
      <div className="grid-2">
        <Panel title={session.name}>
          <Facts session={session} />
        </Panel>
        <ChangePassword name={session.name} />
      </div>
      <SessionsTable whose="own" />
      <TokensTable whose="own" />
    </div>
  );
}

function Facts({ session }: { session: Session }) {
  const pools = usePools();
  return (
    <dl className={classes.facts}>
      <dt>Role</dt>
      <dd>
        <strong>{words(session.role)}</strong> <span className="muted">{ROLE_HELP[session.role]}</span>
      </dd>
      {Object.entries(session.pools ?? {}).map(([id, role]) => (
        <div key={id} style={{ display: "contents" }}>
          <dt>In {poolName(pools.data?.items ?? [], id)}</dt>
          <dd>
            <strong>{words(role)}</strong>
          </dd>
        </div>
      ))}
      <dt>In the history</dt>
      <dd>
        You appear as <strong>{session.name}</strong>, also where one of your tokens acts.
      </dd>
      <dt>This session</dt>
      <dd>Ends 24 hours after its last use, and after 7 days in any case.</dd>
    </dl>
  );
}
