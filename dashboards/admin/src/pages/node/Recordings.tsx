import { Anchor, Button, NativeSelect, SegmentedControl } from "@mantine/core";
import { useState } from "react";
import { type ProfileKind, useStartRecording } from "../../api/mutations";
import { useRecordings } from "../../api/queries";
import type { Node, Recording } from "../../api/types";
import { SpinIcon, WarnIcon } from "../../components/icons";
import { Panel } from "../../components/Panel";
import { Answer, Failed } from "../../components/States";
import { Tag } from "../../components/Tag";
import { When } from "../../components/When";
import { bytes, seconds } from "../../lib/format";
import { FlameGraph } from "./FlameGraph";
import classes from "./Recordings.module.css";

const SPANS_S = [1, 2, 5, 10, 20, 30];
const KINDS: { value: ProfileKind; label: string }[] = [
  { value: "cpu", label: "Flame graph" },
  { value: "torch", label: "Trace" },
];
const HINTS: Record<ProfileKind, string> = {
  cpu: "Where the processor time of all threads goes. Costs about one percent of a core.",
  torch: "Every operation of up to 200 steps, for ui.perfetto.dev. Slows the steps down while it lasts.",
};

/** Looks into the node's process: for admins only, since a recording names functions and slows a trace's steps down. */
export function Recordings({ node }: { node: Node }) {
  const [kind, setKind] = useState<ProfileKind>("cpu");
  const [span, setSpan] = useState(5);
  const [shown, setShown] = useState("");
  // Asked for when somebody wants them: each look is a request to the node itself.
  const [wanted, setWanted] = useState(false);
  const recordings = useRecordings(node.id, wanted);
  const start = useStartRecording(node.id);
  const running = recordings.data?.some((recording) => recording.state === "running") ?? false;
  const failed = start.error;
  return (
    <Panel title="Recordings">
      <form
        className={classes.form}
        onSubmit={(event) => {
          event.preventDefault();
          start.mutate({ kind, seconds: span }, { onSuccess: () => setWanted(true) });
        }}
      >
        <SegmentedControl
          aria-label="Kind of recording"
          data={KINDS}
          value={kind}
          onChange={(value) => setKind(value as ProfileKind)}
        />
        <NativeSelect
          aria-label="Seconds"
          size="xs"
          value={String(span)}
          data={SPANS_S.map((each) => ({ value: String(each), label: `${each} s` }))}
          onChange={(event) => setSpan(Number(event.currentTarget.value))}
        />
        <Button type="submit" variant="default" loading={start.isPending} disabled={running}>
          {running ? "Recording" : "Record"}
        </Button>
      </form>
      <p className={classes.hint}>{HINTS[kind]}</p>
      {failed && <Failed error={failed} />}
      {!wanted ? (
        <Button variant="default" size="compact-sm" onClick={() => setWanted(true)}>
          Earlier recordings
        </Button>
      ) : (
        <Answer query={recordings} height={60}>
          {(items) =>
            items.length === 0 ? (
              <p className={classes.hint}>No recording of the last hour.</p>
            ) : (
              <ul className={classes.list}>
                {items.map((recording) => (
                  <Row
                    key={recording.id}
                    node={node}
                    recording={recording}
                    shown={shown === recording.id}
                    onShow={() => setShown(shown === recording.id ? "" : recording.id)}
                  />
                ))}
              </ul>
            )
          }
        </Answer>
      )}
      {shown && <FlameGraph nodeId={node.id} recordingId={shown} />}
    </Panel>
  );
}

interface RowProps {
  node: Node;
  recording: Recording;
  shown: boolean;
  onShow: () => void;
}

function Row({ node, recording, shown, onShow }: RowProps) {
  const label = recording.kind === "cpu" ? "Flame graph" : "Trace";
  return (
    <li>
      <span>
        {label}, {seconds(recording.seconds)}, <When at={recording.started_at} />
      </span>
      {recording.state === "running" && <Tag look={{ tone: "info", icon: SpinIcon, text: "under way" }} />}
      {recording.state === "failed" && (
        <span title={recording.error ?? undefined}>
          <Tag look={{ tone: "bad", icon: WarnIcon, text: recording.error ?? "failed" }} />
        </span>
      )}
      {recording.state === "done" && (
        <span className={classes.actions}>
          {recording.kind === "cpu" && (
            <Button variant="default" size="compact-sm" onClick={onShow} aria-expanded={shown}>
              {shown ? "Hide" : "Show"}
            </Button>
          )}
          <Anchor size="sm" href={`/api/v1/nodes/${node.id}/profiles/${recording.id}/file`} download>
            Download {bytes(recording.size_bytes)}
          </Anchor>
        </span>
      )}
    </li>
  );
}
