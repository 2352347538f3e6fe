import type { Node } from "../../api/types";
import { Panel } from "../../components/Panel";
import { bytes, number, words } from "../../lib/format";
import classes from "./Machine.module.css";

function text(name: string, value: unknown): string {
  if (Array.isArray(value)) return value.map(String).join(", ") || "none";
  if (typeof value === "number") return name.endsWith("_bytes") ? bytes(value) : number(value);
  return value === null || value === undefined || value === "" ? "–" : String(value);
}

/** The node's hardware, and what it can be set to. */
export function Machine({ node }: { node: Node }) {
  const rows = { ...node.hardware, ...node.capabilities, version: node.version };
  return (
    <Panel title="Machine and capabilities">
      <dl className={classes.list}>
        {Object.entries(rows).map(([name, value]) => (
          <div key={name}>
            <dt>{words(name.replace(/_bytes$/, ""))}</dt>
            <dd>{text(name, value)}</dd>
          </div>
        ))}
      </dl>
    </Panel>
  );
}
