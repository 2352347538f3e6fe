import { Button, Switch } from "@mantine/core";
import { useState } from "react";
import { type ApiToken, useRevokeToken, useTokens, useWebSessions, type Whose } from "../../api/access";
import { usePools } from "../../api/queries";
import { useNow } from "../../app/useNow";
import { ConfirmDialog } from "../../components/ConfirmDialog";
import { Panel } from "../../components/Panel";
import { poolName } from "../../components/RoleFields";
import { ScrollX } from "../../components/ScrollX";
import { Answer, Empty } from "../../components/States";
import { Tag } from "../../components/Tag";
import { accessLook } from "../../components/tones";
import { When } from "../../components/When";
import { tokenState } from "../../lib/access";
import { plural, words } from "../../lib/format";
import { NewToken } from "./NewToken";

/** The name of the token that is configured by `CONTROLPLANE_ADMIN_TOKEN`. */
const INSTALLATION = "bootstrap admin";

/** API tokens by name, prefix and last use. Their secrets are nowhere. */
export function TokensTable({ whose }: { whose: Whose }) {
  const tokens = useTokens(whose);
  const pools = usePools();
  const now = useNow();
  const [making, setMaking] = useState(false);
  const [asked, setAsked] = useState<ApiToken | null>(null);
  const [withEnded, setWithEnded] = useState(false);
  return (
    <Panel
      title={whose === "all" ? "API tokens" : "Your API tokens"}
      aside={
        <>
          <Switch
            size="xs"
            label="Ended ones too"
            checked={withEnded}
            onChange={(event) => setWithEnded(event.currentTarget.checked)}
          />
          <Button size="compact-sm" onClick={() => setMaking(true)}>
            New token
          </Button>
        </>
      }
      flush
    >
      <Answer query={tokens}>
        {(all) => {
          const rows = all.filter((token) => withEnded || tokenState(token, now) === "active");
          if (rows.length === 0)
            return (
              <div className="inset">
                <Empty title="No token is valid now">
                  {whose === "all"
                    ? "A service, a script or a dashboard that speaks to the API gets its own."
                    : "A script or the command line on another machine acts under your name with one."}
                </Empty>
              </div>
            );
          return (
            <ScrollX label="Tokens">
              <table className="data-table">
                <thead>
                  <tr>
                    <th scope="col">Name</th>
                    <th scope="col">Begins with</th>
                    <th scope="col">Role</th>
                    {whose === "all" && <th scope="col">Acts as</th>}
                    <th scope="col">State</th>
                    <th scope="col">Last use</th>
                    <th scope="col">Made</th>
                    <th scope="col">Ends</th>
                    <th scope="col" className="act">
                      <span className="visually-hidden">What can be done</span>
                    </th>
                  </tr>
                </thead>
                <tbody>
                  {rows.map((token) => {
                    const state = tokenState(token, now);
                    return (
                      <tr key={token.id}>
                        <td>
                          <strong>{token.name}</strong>
                        </td>
                        <td className="mono nowrap">{token.prefix}…</td>
                        <td>
                          {words(token.role)}
                          {token.pool_id && (
                            <span className="muted"> in {poolName(pools.data?.items ?? [], token.pool_id)}</span>
                          )}
                        </td>
                        {whose === "all" && <td>{token.owner ?? <span className="muted">itself</span>}</td>}
                        <td>
                          <Tag quiet look={accessLook(state)} />
                        </td>
                        <td>
                          {token.last_used_at ? <When at={token.last_used_at} /> : <span className="muted">never</span>}
                        </td>
                        <td>
                          <When at={token.created_at} />
                        </td>
                        <td>
                          {token.expires_at ? <When at={token.expires_at} /> : <span className="muted">never</span>}
                        </td>
                        <td className="act">
                          {state === "active" && (
                            <Button
                              size="compact-xs"
                              variant="default"
                              onClick={() => setAsked(token)}
                              aria-label={`Revoke token ${token.name}`}
                            >
                              Revoke
                            </Button>
                          )}
                        </td>
                      </tr>
                    );
                  })}
                </tbody>
              </table>
            </ScrollX>
          );
        }}
      </Answer>
      {making && <NewToken whose={whose} onClose={() => setMaking(false)} />}
      {asked && <RevokeToken token={asked} whose={whose} onClose={() => setAsked(null)} />}
    </Panel>
  );
}

function RevokeToken({ token, whose, onClose }: { token: ApiToken; whose: Whose; onClose: () => void }) {
  const revoke = useRevokeToken(whose);
  const sessions = useWebSessions(whose);
  // A service's sessions go by its name, which is nobody else's; a person's may have been opened otherwise.
  const opened = token.owner === null ? (sessions.data ?? []).filter((one) => one.name === token.name) : null;
  const own = opened?.some((one) => one.current) ?? false;
  return (
    <ConfirmDialog
      opened
      onClose={onClose}
      title={`Revoke token ${token.name}?`}
      confirm="Revoke"
      severe
      pending={revoke.isPending}
      error={revoke.error}
      onConfirm={() => revoke.mutate(token.id, { onSuccess: onClose })}
    >
      Whoever uses <span className="mono">{token.prefix}…</span> is refused from the next request on
      {token.last_used_at ? (
        <>
          ; it was last used <When at={token.last_used_at} />
        </>
      ) : (
        "; it was never used"
      )}
      .{" "}
      {opened === null
        ? "Browser sessions that were opened with it end."
        : opened.length > 0
          ? `${plural(opened.length, "browser session")} opened with it ${opened.length === 1 ? "ends" : "end"}${own ? ", this one among them" : ""}.`
          : "No browser session was opened with it."}{" "}
      {token.owner === null && token.name === INSTALLATION
        ? "It is this installation's own: the next start of the API makes it valid again, unless another one is configured by then."
        : "This cannot be taken back."}
    </ConfirmDialog>
  );
}
