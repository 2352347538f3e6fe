import type { RolloutVerb } from "../api/mutations";
import type { Rollout } from "../api/types";
import { plural } from "./format";

type Phase = Rollout["phase"];

/** Phases in which the canary runs the new settings and waits for its verdict. */
const JUDGED: readonly Phase[] = ["ANALYZING", "PROMOTING", "BAKING", "PAUSED"];
const OVER: readonly Phase[] = [
  "ROLLING_BACK",
  "ROLLED_BACK",
  "ROLLBACK_FAILED",
  "REJECTED",
  "CANCELLED",
  "EXPIRED",
  "SUPERSEDED",
];
/** Phases in which it has not begun: there is nothing to pause. */
const WAITING: readonly Phase[] = ["PENDING_APPROVAL", "SCHEDULED"];

/** What a person may ask of a rollout as it is; the API has the last word. */
export function verbsFor({ phase }: Pick<Rollout, "phase">): RolloutVerb[] {
  if (phase === "COMPLETED") return ["rollback"];
  if (OVER.includes(phase)) return [];
  if (WAITING.includes(phase)) return ["abort"];
  const verbs: RolloutVerb[] = [phase === "PAUSED" ? "resume" : "pause"];
  if (JUDGED.includes(phase)) verbs.push("promote");
  return [...verbs, "abort"];
}

export interface Consequence {
  title: string;
  text: string;
  severe: boolean;
}

/** The blast radius of a verb in words, from what each node runs now. */
export function consequence(verb: RolloutVerb, rollout: Rollout): Consequence {
  const total = rollout.nodes.length;
  const changed = rollout.nodes.filter((node) => node.generation !== null || node.applied_at !== null).length;
  const rest = total - changed;
  const from = `revision ${rollout.from_revision.number}`;
  const to = `revision ${rollout.to_revision.number}`;
  const here = `${changed} of ${plural(total, "node")} in ${rollout.pool} ${changed === 1 ? "runs" : "run"} ${to} now.`;
  switch (verb) {
    case "pause":
      return {
        title: "Pause this rollout?",
        text: `${here} No further node is changed until somebody resumes; hard guards still roll back.`,
        severe: false,
      };
    case "resume":
      return {
        title: "Resume this rollout?",
        text: `${here} ${plural(rest, "node")} will follow, step by step.`,
        severe: false,
      };
    case "promote":
      return {
        title: "Promote without waiting for the analysis?",
        text: `${here} ${plural(rest, "more node")} get${rest === 1 ? "s" : ""} ${to} without a verdict on the canary.`,
        severe: true,
      };
    case "abort":
      return {
        title: "Abort this rollout?",
        text: `${here} ${changed ? `Each goes back to ${from}; running requests are not dropped.` : "Nothing has to be undone."}`,
        severe: true,
      };
    case "rollback":
      return {
        title: `Roll back to ${from}?`,
        text: `All ${plural(total, "node")} in ${rollout.pool} go back from ${to} to ${from}; running requests are not dropped.`,
        severe: true,
      };
  }
}
