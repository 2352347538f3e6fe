import { Button } from "@mantine/core";
import { useMemo, useState } from "react";
import { useFlame } from "../../api/queries";
import { ScrollX } from "../../components/ScrollX";
import { Answer, Empty } from "../../components/States";
import { type Box, type Call, heaviest, layout, type Speedscope, shortName, treeOf } from "../../lib/flame";
import { percent, seconds } from "../../lib/format";
import classes from "./FlameGraph.module.css";

const ROW_PX = 20;
const HEAVIEST = 12;

/** A recording of processor time, drawn here: no other site gets to see it. */
export function FlameGraph({ nodeId, recordingId }: { nodeId: string; recordingId: string }) {
  const flame = useFlame(nodeId, recordingId);
  return (
    <Answer query={flame} height={200}>
      {(file) => <Flames file={file} />}
    </Answer>
  );
}

function Flames({ file }: { file: Speedscope }) {
  const root = useMemo(() => treeOf(file), [file]);
  const [focus, setFocus] = useState("0");
  const boxes = useMemo(() => layout(root, focus), [root, focus]);
  if (root.total_s === 0) return <Empty title="No processor time">Nothing was computed while it was recorded.</Empty>;
  const depth = boxes.reduce((deepest, box) => Math.max(deepest, box.depth), 0);
  const time = file.trimtab?.is_cpu_time === false ? "of the clock" : "of processor time";
  return (
    <div className={classes.flames}>
      <p className={classes.note}>
        {seconds(root.total_s)} {time}
        {file.trimtab ? ` in ${seconds(file.trimtab.duration_s)}` : ""}. Each function stands below its caller and is as
        wide as its share; choose one to enlarge it.
        {focus !== "0" && (
          <Button variant="default" size="compact-sm" onClick={() => setFocus("0")}>
            Show all
          </Button>
        )}
      </p>
      <div className={classes.picture} style={{ height: (depth + 1) * ROW_PX }}>
        {boxes.map((box) => (
          <Frame key={box.path} box={box} root={root} focused={box.path === focus} onFocus={() => setFocus(box.path)} />
        ))}
      </div>
      <HeaviestTable root={root} />
    </div>
  );
}

interface FrameProps {
  box: Box;
  root: Call;
  focused: boolean;
  onFocus: () => void;
}

function Frame({ box, root, focused, onFocus }: FrameProps) {
  const { call, depth, left, width } = box;
  const share = percent(call.total_s / root.total_s);
  return (
    <button
      type="button"
      className={classes.frame}
      data-hue={hueOf(call.name)}
      data-focused={focused || undefined}
      style={{ top: depth * ROW_PX, left: `${left * 100}%`, width: `${width * 100}%` }}
      title={`${call.name}: ${seconds(call.total_s)} (${share}), itself ${seconds(call.self_s)}`}
      aria-label={`${call.name}, ${share}`}
      onClick={onFocus}
    >
      {width > 0.03 ? shortName(call.name) : ""}
    </button>
  );
}

/** Our code, libraries, and threads without Python are told apart by colour; the text says it too. */
function hueOf(name: string): string {
  if (name.endsWith("(no Python)")) return "native";
  return /^(inference_node|trimtab|controlplane|workers)\b/.test(name) ? "own" : "other";
}

function HeaviestTable({ root }: { root: Call }) {
  return (
    <ScrollX label="Heaviest functions">
      <table className="data-table">
        <thead>
          <tr>
            <th scope="col">Function</th>
            <th scope="col" className="right">
              Itself
            </th>
            <th scope="col" className="right">
              With what it calls
            </th>
          </tr>
        </thead>
        <tbody>
          {heaviest(root, HEAVIEST).map((heavy) => (
            <tr key={heavy.name}>
              <td className="mono" title={heavy.name}>
                {shortName(heavy.name)}
              </td>
              <td className="right">{percent(heavy.self_s / root.total_s)}</td>
              <td className="right">{percent(heavy.total_s / root.total_s)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </ScrollX>
  );
}
