import { Link } from "react-router";
import type { RolloutNode } from "../../api/types";
import { Panel } from "../../components/Panel";
import { ScrollX } from "../../components/ScrollX";
import { Chip } from "../../components/Tag";
import { clock, duration, words } from "../../lib/format";

function took(node: RolloutNode): string {
  if (!node.dispatched_at || !node.applied_at) return "–";
  return duration((Date.parse(node.applied_at) - Date.parse(node.dispatched_at)) / 1000);
}

export function NodesTable({ nodes }: { nodes: RolloutNode[] }) {
  return (
    <Panel title="Nodes" flush>
      <ScrollX label="Nodes">
        <table className="data-table">
          <thead>
            <tr>
              <th scope="col">Node</th>
              <th scope="col">Role</th>
              <th scope="col">State</th>
              <th scope="col" className="right">
                Generation
              </th>
              <th scope="col" className="right">
                Sent
              </th>
              <th scope="col" className="right">
                In force
              </th>
              <th scope="col" className="right">
                Took
              </th>
              <th scope="col">Note</th>
            </tr>
          </thead>
          <tbody>
            {nodes.map((node) => (
              <tr key={node.node_id}>
                <td>
                  <Link to={`/nodes/${node.node_id}`}>{node.name}</Link>
                </td>
                <td>
                  <Chip tone={node.role.toLowerCase() === "canary" ? "accent" : "idle"}>{words(node.role)}</Chip>
                </td>
                <td>{words(node.state)}</td>
                <td className="right">{node.generation ?? "–"}</td>
                <td className="right">{node.dispatched_at ? clock(node.dispatched_at) : "–"}</td>
                <td className="right">{node.applied_at ? clock(node.applied_at) : "–"}</td>
                <td className="right">{took(node)}</td>
                <td>{node.detail ?? ""}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </ScrollX>
    </Panel>
  );
}
