import type { Process } from "../../api/types";
import { CheckIcon, PowerIcon } from "../../components/icons";
import { Panel } from "../../components/Panel";
import { ScrollX } from "../../components/ScrollX";
import { Tag } from "../../components/Tag";
import { When } from "../../components/When";
import { words } from "../../lib/format";

/** A process's own remarks as short pairs. */
function remarks(detail: Record<string, unknown>): string {
  return Object.entries(detail)
    .filter(([, value]) => value !== null && typeof value !== "object")
    .map(([name, value]) => `${name.replaceAll("_", " ")} ${String(value)}`)
    .join(" · ");
}

export function ProcessTable({ processes }: { processes: Process[] }) {
  return (
    <Panel title="Processes" flush>
      <ScrollX label="Processes">
        <table className="data-table">
          <thead>
            <tr>
              <th scope="col">Process</th>
              <th scope="col">Kind</th>
              <th scope="col">State</th>
              <th scope="col">Last sign of life</th>
              <th scope="col">Remarks</th>
            </tr>
          </thead>
          <tbody>
            {processes.map((process) => (
              <tr key={process.name}>
                <td className="mono">{process.name}</td>
                <td>{words(process.kind)}</td>
                <td>
                  <Tag
                    quiet
                    look={
                      process.alive
                        ? { tone: "ok", icon: CheckIcon, text: "alive" }
                        : { tone: "bad", icon: PowerIcon, text: "silent" }
                    }
                  />
                </td>
                <td>
                  <When at={process.at} />
                </td>
                <td className="muted small">{remarks(process.detail)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </ScrollX>
    </Panel>
  );
}
