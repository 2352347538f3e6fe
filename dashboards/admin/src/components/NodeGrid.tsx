import { Link } from "react-router";
import type { Node } from "../api/types";
import { number, percent, seconds } from "../lib/format";
import { CheckIcon, DriftIcon, SpinIcon, WarnIcon } from "./icons";
import classes from "./NodeGrid.module.css";
import { Empty } from "./States";
import { Tag } from "./Tag";
import { healthLook, type Look } from "./tones";

/** Whether a node runs what is desired of it. */
export function syncLook(node: Node): Look {
  if (node.rejected) return { tone: "bad", icon: WarnIcon, text: "refused" };
  if (node.drifted) return { tone: "warn", icon: DriftIcon, text: "drifted" };
  if (node.experiment) return { tone: "info", icon: SpinIcon, text: "experiment" };
  if (node.preparing_generation !== null) return { tone: "info", icon: SpinIcon, text: "preparing" };
  return node.in_sync
    ? { tone: "idle", icon: CheckIcon, text: "in sync" }
    : { tone: "warn", icon: SpinIcon, text: "converging" };
}

export function NodeGrid({ nodes }: { nodes: Node[] }) {
  if (nodes.length === 0)
    return (
      <Empty title="No node has joined">
        Start one with <span className="mono">trimtab node --model DIR</span>; it registers by itself.
      </Empty>
    );
  return (
    <ul className={classes.grid}>
      {nodes.map((node) => {
        const health = healthLook(node.health);
        return (
          <li key={node.id}>
            <Link to={`/nodes/${node.id}`} className={classes.tile} data-tone={health.tone}>
              <span className={classes.head}>
                <span className={classes.name}>{node.name}</span>
                <Tag look={health} quiet />
              </span>
              <span className={classes.facts}>
                <span>
                  {number(node.running)} running · {number(node.waiting)} waiting
                </span>
                <span>
                  TTFT p95 {seconds(node.latest?.ttft_p95_s)} · KV {percent(node.kv_usage)}
                </span>
              </span>
              <span className={classes.foot}>
                <Tag look={syncLook(node)} quiet />
                <span className="muted small num">
                  gen {node.observed.generation}
                  {node.desired &&
                    node.desired.generation !== node.observed.generation &&
                    ` of ${node.desired.generation}`}
                </span>
              </span>
            </Link>
          </li>
        );
      })}
    </ul>
  );
}
