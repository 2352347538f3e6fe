import { useRevisions } from "../../api/queries";
import type { Pool } from "../../api/types";
import { Panel } from "../../components/Panel";
import { ScrollX } from "../../components/ScrollX";
import { Answer } from "../../components/States";
import { Chip } from "../../components/Tag";
import { When } from "../../components/When";
import { changesBetween, changesText } from "../../lib/settings";

/** The pool's settings over time, newest first, each with what it changed and why. */
export function RevisionsTable({ pool }: { pool: Pool }) {
  const revisions = useRevisions(pool.id);
  return (
    <Panel title="Revisions" flush>
      <Answer query={revisions}>
        {({ items }) => (
          <ScrollX label="Revisions">
            <table className="data-table">
              <thead>
                <tr>
                  <th scope="col">Revision</th>
                  <th scope="col">Change</th>
                  <th scope="col">By</th>
                  <th scope="col">When</th>
                </tr>
              </thead>
              <tbody>
                {items.map((revision, index) => {
                  const before = items[index + 1];
                  return (
                    <tr key={revision.id} title={revision.reason}>
                      <td className="nowrap">
                        {revision.number}{" "}
                        {revision.id === pool.current_revision?.id && <Chip tone="accent">in force</Chip>}
                      </td>
                      <td className="mono">
                        {before ? changesText(changesBetween(before.settings, revision.settings)) : revision.reason}
                      </td>
                      <td>{revision.created_by}</td>
                      <td>
                        <When at={revision.created_at} />
                      </td>
                    </tr>
                  );
                })}
              </tbody>
            </table>
          </ScrollX>
        )}
      </Answer>
    </Panel>
  );
}
