import type { Check, Outlook, WhatIf } from "../../api/types";
import { CheckIcon, CrossIcon, InfoIcon, PersonIcon, WarnIcon } from "../../components/icons";
import { Panel } from "../../components/Panel";
import { ScrollX } from "../../components/ScrollX";
import { Tag } from "../../components/Tag";
import type { Look } from "../../components/tones";
import { percent } from "../../lib/format";
import classes from "./WhatIf.module.css";

const NAMES: Record<string, string> = {
  ttft_slo: "TTFT objective",
  itl_slo: "ITL objective",
  capacity: "Capacity",
  quality: "Quality",
  memory: "Memory",
  nodes: "The nodes",
  bounds: "Policy bounds",
  step_size: "Size of the step",
  error_budget: "Error budget",
  autonomy: "Autonomy",
};

const LOOKS: Record<Check["state"], Look> = {
  met: { tone: "ok", icon: CheckIcon, text: "met" },
  binds: { tone: "warn", icon: WarnIcon, text: "binds" },
  broken: { tone: "bad", icon: CrossIcon, text: "broken" },
  unknown: { tone: "idle", icon: InfoIcon, text: "not measured" },
  asks: { tone: "info", icon: PersonIcon, text: "asks a person" },
};

/** Which limit stands where: what breaks, what binds, and what the controller would have to ask for. */
export function CheckTable({ answer: { now, then } }: { answer: WhatIf }) {
  const names = [...new Set([...now.checks, ...(then?.checks ?? [])].map(({ name }) => name))];
  return (
    <Panel flush title="Which limit binds" aside={<span>share of what is allowed</span>}>
      <ScrollX label="Limits">
        <table className={`data-table ${classes.limits}`}>
          <thead>
            <tr>
              <th scope="col">Limit</th>
              <th scope="col">In force</th>
              <th scope="col">What if</th>
            </tr>
          </thead>
          <tbody>
            {names.map((name) => (
              <tr key={name}>
                <td>
                  {NAMES[name] ?? name}
                  <span className="small muted" style={{ display: "block" }}>
                    {(find(then, name) ?? find(now, name))?.detail}
                  </span>
                </td>
                <td>
                  <State check={find(now, name)} />
                </td>
                <td>
                  <State check={find(then, name)} />
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </ScrollX>
    </Panel>
  );
}

function find(side: Outlook | null, name: string): Check | undefined {
  return side?.checks.find((check) => check.name === name);
}

function State({ check }: { check: Check | undefined }) {
  if (!check) return <span className="muted">does not apply</span>;
  return (
    <span className={classes.check}>
      <Tag look={LOOKS[check.state]} quiet={check.state === "met"} />
      {check.share !== null && (
        <span className="num small muted">{check.share > 10 ? "> 1,000 %" : percent(check.share, 0)}</span>
      )}
    </span>
  );
}
