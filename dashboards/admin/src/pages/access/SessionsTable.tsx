import { Button } from "@mantine/core";
import { useState } from "react";
import { useEndSession, useWebSessions, type WebSession, type Whose } from "../../api/access";
import { ConfirmDialog } from "../../components/ConfirmDialog";
import { Panel } from "../../components/Panel";
import { ScrollX } from "../../components/ScrollX";
import { Answer } from "../../components/States";
import { Chip } from "../../components/Tag";
import { When } from "../../components/When";
import { browserName } from "../../lib/access";
import { plural, words } from "../../lib/format";

/** Open browser sessions, one's own or everybody's. An ended one is refused with its next request. */
export function SessionsTable({ whose }: { whose: Whose }) {
  const sessions = useWebSessions(whose);
  const [asked, setAsked] = useState<WebSession | null>(null);
  return (
    <Panel
      title={whose === "all" ? "Open sessions" : "Where you are signed in"}
      aside={sessions.data && plural(sessions.data.length, "session")}
      flush
    >
      <Answer query={sessions}>
        {(rows) => (
          <ScrollX label="Sessions">
            <table className="data-table">
              <thead>
                <tr>
                  {whose === "all" && <th scope="col">Who</th>}
                  {whose === "all" && <th scope="col">Role</th>}
                  <th scope="col">Browser</th>
                  <th scope="col">Address</th>
                  <th scope="col">Since</th>
                  <th scope="col">Last seen</th>
                  <th scope="col">Ends</th>
                  <th scope="col" className="act">
                    <span className="visually-hidden">What can be done</span>
                  </th>
                </tr>
              </thead>
              <tbody>
                {rows.map((row) => (
                  <tr key={row.id}>
                    {whose === "all" && (
                      <td>
                        <strong>{row.name}</strong>
                      </td>
                    )}
                    {whose === "all" && <td>{words(row.role)}</td>}
                    <td title={row.browser} className="nowrap">
                      {browserName(row.browser)} {row.current && <Chip tone="accent">this one</Chip>}
                    </td>
                    <td className="mono">{row.address}</td>
                    <td>
                      <When at={row.created_at} />
                    </td>
                    <td>
                      <When at={row.last_seen_at} />
                    </td>
                    <td>
                      <When at={row.expires_at} />
                    </td>
                    <td className="act">
                      {!row.current && (
                        <Button
                          size="compact-xs"
                          variant="default"
                          onClick={() => setAsked(row)}
                          aria-label={`End ${row.name}'s session in ${browserName(row.browser)}`}
                        >
                          End
                        </Button>
                      )}
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          </ScrollX>
        )}
      </Answer>
      {asked && <EndSession session={asked} whose={whose} onClose={() => setAsked(null)} />}
    </Panel>
  );
}

function EndSession({ session, whose, onClose }: { session: WebSession; whose: Whose; onClose: () => void }) {
  const end = useEndSession(whose);
  return (
    <ConfirmDialog
      opened
      onClose={onClose}
      title={`End ${whose === "all" ? `${session.name}'s` : "this"} session?`}
      confirm="End session"
      severe
      pending={end.isPending}
      error={end.error}
      onConfirm={() => end.mutate(session.id, { onSuccess: onClose })}
    >
      {browserName(session.browser)} at {session.address} is refused from its next request on, and a live page there
      stops within 10 s. Whoever knows the password can sign in again
      {whose === "all" ? ": to keep somebody out, disable them." : ": change it if you do not know this browser."}
    </ConfirmDialog>
  );
}
