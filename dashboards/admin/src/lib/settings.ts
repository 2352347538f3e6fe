import type { Changes, EngineSettings, Knob, KnobValue } from "../api/types";
import { ABSENT, number } from "./format";

/** Knobs that differ, as [from, to], in the order of `from`. */
export function changesBetween(from: EngineSettings, to: EngineSettings): Changes {
  const changes: Record<string, [KnobValue, KnobValue]> = {};
  for (const name of new Set([...Object.keys(from), ...Object.keys(to)])) {
    const before = from[name];
    const after = to[name];
    if (before !== undefined && after !== undefined && before !== after) changes[name] = [before, after];
  }
  return changes;
}

export function knobText(value: KnobValue | null | undefined): string {
  if (value === null || value === undefined) return ABSENT;
  if (typeof value === "boolean") return value ? "on" : "off";
  return typeof value === "number" ? number(value) : value;
}

export function withUnit(value: KnobValue | null | undefined, knob: Knob | undefined): string {
  const text = knobText(value);
  return knob?.unit && knob.unit !== "ratio" && typeof value === "number" ? `${text} ${knob.unit}` : text;
}

/** Why a number may not stand in this knob, or null. */
export function knobProblem(knob: Knob, value: KnobValue): string | null {
  if (knob.kind !== "int" && knob.kind !== "float") return null;
  if (typeof value !== "number" || !Number.isFinite(value)) return "a number is needed";
  if (knob.kind === "int" && !Number.isInteger(value)) return "a whole number is needed";
  if (knob.minimum !== null && value < knob.minimum) return `at least ${number(knob.minimum)}`;
  if (knob.maximum !== null && value > knob.maximum) return `at most ${number(knob.maximum)}`;
  return null;
}

/** "max_batch_size 4 → 12, precision bf16 → int8" */
export function changesText(changes: Changes): string {
  const parts = Object.entries(changes).map(([name, [from, to]]) => `${name} ${knobText(from)} → ${knobText(to)}`);
  return parts.length ? parts.join(", ") : "no change";
}
