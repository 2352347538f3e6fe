import type { Node } from "../../api/types";
import { Panel } from "../../components/Panel";
import { bytes, number, words } from "../../lib/format";
import classes from "./Machine.module.css";

const LABELS: Record<string, string> = {
  numa_nodes: "NUMA nodes",
  read_bytes_per_s: "Memory read",
  flops_per_s: "Products",
};

function text(name: string, value: unknown): string {
  if (name === "read_bytes_per_s") return value ? `${bytes(Number(value))}/s` : "–";
  if (name === "flops_per_s") return rates(value);
  if (Array.isArray(value)) return value.map(String).join(", ") || "none";
  if (typeof value === "number") return name.endsWith("_bytes") ? bytes(value) : number(value);
  return value === null || value === undefined || value === "" ? "–" : String(value);
}

/** Operations per second by format: "bf16 2.29 T/s, fp32 0.347 T/s". */
function rates(value: unknown): string {
  const known = Object.entries((value ?? {}) as Record<string, number>);
  return known.map(([format, rate]) => `${format} ${number(rate / 1e12)} T/s`).join(", ") || "–";
}

/** The node's hardware, and what it can be set to. */
export function Machine({ node }: { node: Node }) {
  const rows = { ...node.hardware, ...node.capabilities, version: node.version };
  return (
    <Panel title="Machine and capabilities">
      <dl className={classes.list}>
        {Object.entries(rows).map(([name, value]) => (
          <div key={name}>
            <dt>{LABELS[name] ?? words(name.replace(/_bytes$/, ""))}</dt>
            <dd>{text(name, value)}</dd>
          </div>
        ))}
      </dl>
    </Panel>
  );
}
