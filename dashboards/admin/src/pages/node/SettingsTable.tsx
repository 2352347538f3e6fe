import type { EngineSettings, Knob, Node } from "../../api/types";
import { syncLook } from "../../components/NodeGrid";
import { Panel } from "../../components/Panel";
import { ScrollX } from "../../components/ScrollX";
import { Tag } from "../../components/Tag";
import { When } from "../../components/When";
import { knobText, withUnit } from "../../lib/settings";
import { Experiment } from "./Experiment";
import classes from "./SettingsTable.module.css";

/** What is desired of a node beside what it says it runs, and how the one came to the other. */
export function SettingsTable({ node, knobs }: { node: Node; knobs: Knob[] }) {
  const known = new Map(knobs.map((knob) => [knob.name, knob]));
  const desired: EngineSettings = node.desired?.settings ?? {};
  const observed: EngineSettings = node.observed.settings;
  const names = [...new Set([...Object.keys(observed), ...Object.keys(desired)])];
  return (
    <Panel title="Settings, desired and observed" aside={<Tag look={syncLook(node)} />} flush>
      {node.rejected && (
        <p className={classes.note} data-tone="bad">
          The node refused generation {node.rejected.generation}: {node.rejected.reason ?? "it gave no reason"}
        </p>
      )}
      <Experiment node={node} />
      {node.drifted && (
        <p className={classes.note} data-tone="warn">
          The settings were changed on the node itself since the last push.
        </p>
      )}
      <ScrollX label="Settings">
        <table className="data-table">
          <thead>
            <tr>
              <th scope="col">Knob</th>
              <th scope="col" className="right">
                Desired
              </th>
              <th scope="col" className="right">
                Observed
              </th>
              <th scope="col">Applies</th>
            </tr>
          </thead>
          <tbody>
            {names.map((name) => {
              const differs = name in desired && desired[name] !== observed[name];
              return (
                <tr key={name} className={differs ? "picked" : undefined}>
                  <td className="mono" title={known.get(name)?.help}>
                    {name}
                  </td>
                  <td className="right">{node.desired ? withUnit(desired[name], known.get(name)) : "–"}</td>
                  <td className="right">
                    {knobText(observed[name])}
                    {differs && <span className="visually-hidden"> (differs)</span>}
                  </td>
                  <td className="muted small">{known.get(name)?.apply_mode ?? ""}</td>
                </tr>
              );
            })}
          </tbody>
        </table>
      </ScrollX>
      <dl className={classes.facts}>
        <div>
          <dt>Generation</dt>
          <dd>
            {node.observed.generation}
            {node.desired && ` of ${node.desired.generation}`}
          </dd>
        </div>
        <div>
          <dt>Epoch</dt>
          <dd>{node.observed.epoch}</dd>
        </div>
        {node.desired && (
          <div>
            <dt>Revision</dt>
            <dd>{node.desired.revision}</dd>
          </div>
        )}
        <div>
          <dt>In force since step</dt>
          <dd>{node.observed.applied_step.toLocaleString("en-GB")}</dd>
        </div>
        <div>
          <dt>Hash</dt>
          <dd className="mono">{node.observed.hash.slice(0, 8)}</dd>
        </div>
        <div>
          <dt>Observed</dt>
          <dd>
            <When at={node.observed.at} />
          </dd>
        </div>
      </dl>
    </Panel>
  );
}
