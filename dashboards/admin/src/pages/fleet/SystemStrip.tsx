import { Link } from "react-router";
import { useSystem } from "../../api/queries";
import type { System } from "../../api/types";
import { CheckIcon, InfoIcon, WarnIcon } from "../../components/icons";
import { Panel } from "../../components/Panel";
import { Answer } from "../../components/States";
import { Tag } from "../../components/Tag";
import type { Look } from "../../components/tones";
import { plural } from "../../lib/format";
import classes from "./FleetPage.module.css";

function dependency(ok: boolean | null): Look {
  if (ok === null) return { tone: "idle", icon: InfoIcon, text: "not known" };
  return ok
    ? { tone: "ok", icon: CheckIcon, text: "reachable" }
    : { tone: "bad", icon: WarnIcon, text: "not reachable" };
}

function processes(system: System, kind: string): Look {
  const alive = system.processes.filter((process) => process.kind === kind && process.alive).length;
  return alive > 0
    ? { tone: "ok", icon: CheckIcon, text: `${alive} alive` }
    : { tone: "bad", icon: WarnIcon, text: "none alive" };
}

function outbox(system: System): Look {
  const { open, dead } = system.outbox;
  if (dead > 0) return { tone: "bad", icon: WarnIcon, text: `${plural(dead, "task")} given up` };
  return open > 20
    ? { tone: "warn", icon: WarnIcon, text: `${open} open` }
    : { tone: "ok", icon: CheckIcon, text: open ? `${open} open` : "empty" };
}

/** Trimtab's own health in five lines. */
export function SystemStrip() {
  const system = useSystem();
  return (
    <Panel title="Control plane" aside={<Link to="/system">Details</Link>}>
      <Answer query={system} height={130}>
        {(data) => {
          const rows: [string, Look][] = [
            [
              "Leader",
              data.leader
                ? { tone: "ok", icon: CheckIcon, text: `epoch ${data.leader.epoch}` }
                : { tone: "bad", icon: WarnIcon, text: "none" },
            ],
            ["Worker", processes(data, "worker")],
            ["Prometheus", dependency(data.prometheus.ok)],
            ["Redis", dependency(data.redis.ok)],
            ["Outbox", outbox(data)],
          ];
          return (
            <ul className={classes.strip}>
              {rows.map(([name, look]) => (
                <li key={name}>
                  {name} <Tag look={look} quiet />
                </li>
              ))}
            </ul>
          );
        }}
      </Answer>
    </Panel>
  );
}
