// The what-if's form: what stands in the URL, what of it is wrong, and what is asked.

import type { Estimate, Knob, KnobValue, WhatIf } from "../api/types";
import type { Question } from "../api/whatIf";
import { number, percent, perSecond, seconds } from "./format";
import { knobProblem, knobText } from "./settings";

/** The knobs that change what the model expects. */
export const ASKED = [
  "max_batch_size",
  "max_batched_tokens",
  "batch_wait_ms",
  "precision",
  "kv_precision",
  "pruning_threshold",
] as const;

/** Of the load: name in the URL and the API, label, unit, most that the slider offers. */
export const LOAD = [
  { name: "offered_rps", label: "Load", unit: "requests/s", most: 1e6, least: 0 },
  { name: "prompt_tokens", label: "Prompt", unit: "tokens", most: 1e6, least: 1 },
  { name: "generation_tokens", label: "Answer", unit: "tokens", most: 1e6, least: 1 },
] as const;

export type LoadName = (typeof LOAD)[number]["name"];

/** As typed, by name; what is not there is as it is. */
export type Draft = Readonly<Record<string, string>>;

const NAMES: readonly string[] = [...ASKED, ...LOAD.map(({ name }) => name)];

export function draftOf(search: URLSearchParams): Draft {
  return Object.fromEntries([...search].filter(([name]) => NAMES.includes(name)));
}

/** A knob's value as typed: a number where one is meant, else the text itself. */
export function typedValue(knob: Knob, text: string): KnobValue {
  if (knob.kind !== "int" && knob.kind !== "float") return text;
  const value = Number(text);
  return text.trim() === "" || !Number.isFinite(value) ? text : value;
}

export function loadProblem(name: LoadName, text: string): string | null {
  const rule = LOAD.find((each) => each.name === name);
  const value = Number(text);
  if (text.trim() === "" || !Number.isFinite(value)) return "a number is needed";
  if (rule === undefined) return null;
  if (name === "offered_rps" && value <= 0) return "more than 0";
  if (value < rule.least) return `at least ${number(rule.least)}`;
  return value > rule.most ? `at most ${number(rule.most)}` : null;
}

/** What is wrong with the draft, by name. */
export function problemsOf(draft: Draft, knobs: readonly Knob[]): Record<string, string> {
  const found: Record<string, string> = {};
  for (const knob of knobs) {
    const text = draft[knob.name];
    const problem = text === undefined ? null : knobProblem(knob, typedValue(knob, text));
    if (problem) found[knob.name] = problem;
  }
  for (const { name } of LOAD) {
    const text = draft[name];
    const problem = text === undefined ? null : loadProblem(name, text);
    if (problem) found[name] = problem;
  }
  return found;
}

/** What to ask the API, or null while something typed cannot be asked. */
export function questionOf(draft: Draft, knobs: readonly Knob[]): Question | null {
  if (knobs.length === 0 || Object.keys(problemsOf(draft, knobs)).length > 0) return null;
  const settings: Record<string, KnobValue> = {};
  for (const name of ASKED) {
    const knob = knobs.find((each) => each.name === name);
    const text = draft[name];
    if (knob && text !== undefined) settings[name] = typedValue(knob, text);
  }
  const load = Object.fromEntries(
    LOAD.filter(({ name }) => draft[name] !== undefined).map(({ name }) => [name, Number(draft[name])]),
  );
  return { settings, ...load };
}

/** Steps of a slider: 1, 2, 3, 4, 6, 8, 12, 16 … within the bounds, which are among them. */
export function ladder(least: number, most: number): number[] {
  const found = new Set<number>();
  if (least > 0) found.add(least);
  for (let power = 2 ** Math.floor(Math.log2(Math.max(least, 1))); power <= most; power *= 2)
    for (const step of power < 2 ? [power] : [power, power * 1.5]) if (step >= least && step <= most) found.add(step);
  found.add(most);
  return [...found].sort((a, b) => a - b);
}

/** Equal steps from least to most. */
export function even(least: number, most: number, step: number): number[] {
  const count = Math.max(1, Math.round((most - least) / step));
  return Array.from({ length: count + 1 }, (_, place) => Number((least + place * step).toFixed(6)));
}

export function nearest(steps: readonly number[], value: number): number {
  let best = 0;
  steps.forEach((step, place) => {
    if (Math.abs(step - value) < Math.abs((steps[best] ?? 0) - value)) best = place;
  });
  return best;
}

type Format = (value: number | null | undefined) => string;

/** "0.41 s to 0.78 s"; nothing where there is no doubt to tell of. */
export function rangeText({ low, high }: Estimate, format: Format): string {
  const [from, to] = [format(low), format(high)];
  return from === to ? "" : `${from} to ${to}`;
}

/** How much a figure changes, as percent; absent where it was 0. */
export function changeText(from: number, to: number): string {
  if (from === 0) return to === 0 ? "±0 %" : "";
  const change = (to / from - 1) * 100;
  if (Math.abs(change) < 0.5) return "±0 %";
  if (change > 999) return "> +999 %";
  return `${change > 0 ? "+" : "−"}${number(Math.abs(Math.round(change)))} %`;
}

/** The what-if in a sentence, for the reason of a proposal. */
export function inWords({ changes, now, then, load }: WhatIf): string {
  if (!then) return "";
  const knobs = Object.entries(changes).map(([name, [from, to]]) => `${name} ${knobText(from)} → ${knobText(to)}`);
  const pair = (before: Estimate, after: Estimate, format: Format) =>
    `${format(before.value)} → ${format(after.value)} (${format(after.low)} to ${format(after.high)})`;
  const parts = [
    `p95 TTFT ${pair(now.ttft_p95_s, then.ttft_p95_s, seconds)}`,
    `p95 ITL ${pair(now.itl_p95_s, then.itl_p95_s, seconds)}`,
    `capacity ${perSecond(now.capacity_rps.value)} → ${perSecond(then.capacity_rps.value)}`,
  ];
  if (then.quality_loss && then.quality_loss.value > 0) parts.push(`quality loss ${percent(then.quality_loss.value)}`);
  return `What if: ${knobs.join(", ")}. At ${perSecond(load.offered_rps)}: ${parts.join(", ")}.`.slice(0, 500);
}
