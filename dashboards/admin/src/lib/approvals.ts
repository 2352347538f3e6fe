// Four eyes: who has agreed to a rollout, and whether the person at the screen may.
import type { Rollout } from "../api/types";
import { includes, type Role } from "./access";
import { plural } from "./format";

type Voted = Pick<Rollout, "phase" | "created_by" | "approvals" | "approvals_needed">;

/** Whether it can still be agreed to or refused: only before it has begun. */
export function isOpenToVotes({ phase }: Pick<Rollout, "phase">): boolean {
  return phase === "PENDING_APPROVAL" || phase === "SCHEDULED";
}

/** How many agree; whoever asked for the change does not count. */
export function agreed({ approvals, created_by }: Pick<Rollout, "approvals" | "created_by">): number {
  return approvals.filter((vote) => vote.agrees && vote.actor !== created_by).length;
}

/** "1 of 2 approvals", "needs 1 approval". */
export function standing(rollout: Voted): string {
  const done = agreed(rollout);
  const needed = rollout.approvals_needed;
  return done === 0 ? `needs ${plural(needed, "approval")}` : `${done} of ${plural(needed, "approval")}`;
}

/** Why this person cannot agree, in words for a tooltip; null when they can. The API has the last word. */
export function whyNotApprove(rollout: Voted, who: { name: string }, role: Role): string | null {
  if (!includes(role, "approver")) return "Approvers of this pool may do this";
  if (rollout.created_by === who.name) return "You asked for this change, so somebody else must approve it";
  const mine = rollout.approvals.find((vote) => vote.actor === who.name);
  if (mine?.agrees) return "You have approved it";
  return null;
}

/** What happens when this person agrees. */
export function afterApproval(rollout: Voted): string {
  const left = rollout.approvals_needed - agreed(rollout) - 1;
  if (left > 0) return `${plural(left, "more approval")} will be needed before it begins.`;
  return rollout.phase === "SCHEDULED" ? "It begins at its time." : "It is then complete, and the rollout begins.";
}
