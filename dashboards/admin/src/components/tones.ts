import type { ComponentType, SVGProps } from "react";
import { words } from "../lib/format";
import {
  BackIcon,
  CheckIcon,
  ClockIcon,
  CrossIcon,
  InfoIcon,
  PauseIcon,
  PowerIcon,
  RolloutIcon,
  SpinIcon,
  WarnIcon,
} from "./icons";

export type Tone = "ok" | "warn" | "bad" | "info" | "idle" | "accent" | "forecast";
type Icon = ComponentType<Omit<SVGProps<SVGSVGElement>, "children"> & { size?: number }>;

/** How a word of the API looks: colour, icon and text always go together, so that none carries the meaning alone. */
export interface Look {
  tone: Tone;
  icon: Icon;
  text: string;
}

type Table = Record<string, [Tone, Icon, string?]>;

const HEALTH: Table = {
  ready: ["ok", CheckIcon],
  starting: ["info", SpinIcon],
  draining: ["warn", PauseIcon],
  failed: ["bad", CrossIcon],
  unreachable: ["bad", PowerIcon],
};

const OUTCOME: Table = {
  APPLY: ["accent", RolloutIcon, "Apply"],
  HOLD: ["idle", PauseIcon, "Hold"],
  REJECT: ["bad", CrossIcon, "Reject"],
  ADVISE: ["warn", InfoIcon, "Advise"],
};

const PHASE: Table = {
  PENDING_APPROVAL: ["warn", ClockIcon],
  SCHEDULED: ["idle", ClockIcon],
  PAUSED: ["warn", PauseIcon],
  COMPLETED: ["ok", CheckIcon],
  ROLLING_BACK: ["bad", BackIcon],
  ROLLED_BACK: ["bad", BackIcon],
  ROLLBACK_FAILED: ["bad", WarnIcon],
  REJECTED: ["bad", CrossIcon],
  CANCELLED: ["idle", CrossIcon],
  EXPIRED: ["idle", CrossIcon],
  SUPERSEDED: ["idle", CrossIcon],
};

const VERDICT: Table = {
  PASS: ["ok", CheckIcon],
  FAIL: ["bad", CrossIcon],
  INCONCLUSIVE: ["warn", InfoIcon],
  ERROR: ["bad", WarnIcon],
};

const SEVERITY: Table = { info: ["info", InfoIcon], warning: ["warn", WarnIcon], error: ["bad", WarnIcon] };

const ACCESS: Table = {
  active: ["ok", CheckIcon],
  open: ["ok", CheckIcon],
  invited: ["info", ClockIcon],
  used: ["idle", CheckIcon],
  disabled: ["bad", PowerIcon],
  expired: ["idle", ClockIcon],
  revoked: ["idle", CrossIcon],
};

const STEP: Table = {
  done: ["ok", CheckIcon],
  active: ["accent", SpinIcon],
  failed: ["bad", CrossIcon],
  paused: ["warn", PauseIcon],
  pending: ["idle", ClockIcon],
  skipped: ["idle", CrossIcon],
};

const STEP_WORDS: Record<string, string> = {
  completed: "done",
  complete: "done",
  passed: "done",
  running: "active",
  current: "active",
  in_progress: "active",
  waiting: "pending",
  todo: "pending",
};

function look(table: Table, word: string, fallback: [Tone, Icon]): Look {
  const [tone, icon, text] = table[word] ?? fallback;
  return { tone, icon, text: text ?? words(word) };
}

export const healthLook = (word: string): Look => look(HEALTH, word, ["idle", InfoIcon]);
export const outcomeLook = (word: string): Look => look(OUTCOME, word, ["idle", InfoIcon]);
export const phaseLook = (word: string): Look => look(PHASE, word.toUpperCase(), ["accent", SpinIcon]);
export const verdictLook = (word: string): Look => look(VERDICT, word.toUpperCase(), ["idle", InfoIcon]);
export const severityLook = (word: string): Look => look(SEVERITY, word, ["info", InfoIcon]);
/** Of a user or a token. */
export const accessLook = (word: string): Look => look(ACCESS, word, ["idle", InfoIcon]);
export const stepLook = (word: string): Look => {
  const lower = word.toLowerCase();
  return look(STEP, STEP_WORDS[lower] ?? lower, ["idle", ClockIcon]);
};

const ENDED = new Set([
  "COMPLETED",
  "ROLLED_BACK",
  "ROLLBACK_FAILED",
  "REJECTED",
  "CANCELLED",
  "EXPIRED",
  "SUPERSEDED",
]);

export function hasEnded(phase: string): boolean {
  return ENDED.has(phase.toUpperCase());
}
