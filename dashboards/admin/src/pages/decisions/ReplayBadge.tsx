import { Tooltip } from "@mantine/core";
import { useReplay } from "../../api/queries";
import { CheckIcon, WarnIcon } from "../../components/icons";
import { Tag } from "../../components/Tag";

/** Whether deciding again from the recorded inputs gives the same decision. */
export function ReplayBadge({ id }: { id: string }) {
  const replay = useReplay(id);
  if (!replay.data) return null;
  const { identical } = replay.data;
  const note = identical
    ? "Decided again from the recorded inputs just now: the same, to the last number."
    : "Decided again from the recorded inputs, the outcome differs: the code has changed since.";
  return (
    <Tooltip label={note} w={260}>
      <span>
        <Tag
          look={
            identical
              ? { tone: "ok", icon: CheckIcon, text: "replays identically" }
              : { tone: "warn", icon: WarnIcon, text: "replay differs" }
          }
        />
      </span>
    </Tooltip>
  );
}
