import { Button, Tooltip } from "@mantine/core";
import { useState } from "react";
import { useVote } from "../../api/mutations";
import { useKnobs, useSession } from "../../api/queries";
import type { Rollout } from "../../api/types";
import { useNow } from "../../app/useNow";
import { useMayOperate } from "../../app/useRole";
import { ConfirmDialog } from "../../components/ConfirmDialog";
import { CheckIcon, ClockIcon, StopIcon } from "../../components/icons";
import { Panel } from "../../components/Panel";
import { SettingsDiff } from "../../components/SettingsDiff";
import { Tag } from "../../components/Tag";
import { When } from "../../components/When";
import { roleIn } from "../../lib/access";
import { afterApproval, isOpenToVotes, standing, whyNotApprove } from "../../lib/approvals";
import { duration, moment, plural } from "../../lib/format";
import classes from "./Rollouts.module.css";

/** Who has agreed to this change, and agreeing to it. Nothing where nobody has to. */
export function Approval({ rollout }: { rollout: Rollout }) {
  if (rollout.approvals_needed === 0 && rollout.approvals.length === 0) return null;
  const open = isOpenToVotes(rollout);
  return (
    <Panel title="Approval" aside={open && <span className="muted">{standing(rollout)}</span>}>
      <div className="stack">
        {open && <Expiry rollout={rollout} />}
        <Votes rollout={rollout} />
        {open && <VoteButtons rollout={rollout} />}
      </div>
    </Panel>
  );
}

function Expiry({ rollout }: { rollout: Rollout }) {
  const now = useNow();
  if (!rollout.expires_at) return null;
  const left_s = Math.max(0, (Date.parse(rollout.expires_at) - now) / 1000);
  return (
    <p title={moment(rollout.expires_at)}>
      {left_s > 0
        ? `It has to begin within ${duration(left_s)}; after that it expires and is decided anew.`
        : "Its time is over: it expires within seconds."}
    </p>
  );
}

function Votes({ rollout }: { rollout: Rollout }) {
  if (rollout.approvals.length === 0) return <p className="muted">Nobody has looked at it yet.</p>;
  return (
    <ul className={classes.votes}>
      {rollout.approvals.map((vote) => (
        <li key={vote.actor}>
          <Tag
            look={
              vote.agrees
                ? { tone: "ok", icon: CheckIcon, text: "approved" }
                : { tone: "bad", icon: StopIcon, text: "refused" }
            }
            quiet
          />
          <span>
            {vote.actor}{" "}
            <span className="muted">
              · <When at={vote.at} />
            </span>
          </span>
          {vote.comment && <q className={classes.comment}>{vote.comment}</q>}
        </li>
      ))}
    </ul>
  );
}

/** The two answers, each with what it leads to. */
function VoteButtons({ rollout }: { rollout: Rollout }) {
  const [asked, setAsked] = useState<"approve" | "refuse" | null>(null);
  const knobs = useKnobs();
  const session = useSession();
  const mayOperate = useMayOperate(rollout.pool_id);
  const vote = useVote(rollout);
  const why = session.data
    ? whyNotApprove(rollout, session.data, roleIn(session.data, rollout.pool_id))
    : "Sign in to approve";
  const close = () => {
    setAsked(null);
    vote.reset();
  };
  const nodes = plural(rollout.nodes.length, "node");
  return (
    <div className="row">
      <Tooltip label={why} disabled={why === null}>
        <Button leftSection={<CheckIcon size={14} />} disabled={why !== null} onClick={() => setAsked("approve")}>
          Approve
        </Button>
      </Tooltip>
      <Tooltip label="Operators of this pool may do this" disabled={mayOperate}>
        <Button
          variant="default"
          leftSection={<StopIcon size={14} />}
          disabled={!mayOperate}
          onClick={() => setAsked("refuse")}
        >
          Refuse
        </Button>
      </Tooltip>
      {asked && (
        <ConfirmDialog
          opened
          onClose={close}
          title={asked === "approve" ? `Approve revision ${rollout.to_revision.number}?` : "Refuse this change?"}
          confirm={asked === "approve" ? "Approve" : "Refuse"}
          severe={asked === "refuse"}
          pending={vote.isPending}
          error={vote.error}
          reasonLabel="Comment (stands in the timeline)"
          reasonOptional
          onConfirm={(comment) => vote.mutate({ verdict: asked, comment }, { onSuccess: close })}
        >
          <div className="stack">
            <SettingsDiff changes={rollout.changes} knobs={knobs.data ?? []} />
            <p>
              {asked === "approve"
                ? `For ${nodes} in ${rollout.pool}, canary first. ${afterApproval(rollout)}`
                : `The rollout ends before any of the ${nodes} in ${rollout.pool} is changed, whoever has approved it.`}
            </p>
          </div>
        </ConfirmDialog>
      )}
    </div>
  );
}

/** For lists: how far the approvals are. */
export function ApprovalTag({ rollout }: { rollout: Rollout }) {
  if (!isOpenToVotes(rollout) || rollout.approvals_needed === 0) return null;
  return <Tag look={{ tone: "warn", icon: ClockIcon, text: standing(rollout) }} quiet />;
}
