// The parts of a time chart, as plain values.
import type { Value } from "../../lib/series";
import type { Tone } from "../tones";

export type Ink = "series-1" | "series-2" | "series-3" | "series-4" | "forecast" | "idle";

export interface Line {
  label: string;
  ink: Ink;
  values: Value[];
  dashed?: boolean;
  /** Filled down to zero, for amounts such as load. */
  filled?: boolean;
  /** An edge of a band: no line of its own. */
  edge?: boolean;
}

export interface Band {
  upper: number;
  lower: number;
  ink: Ink;
}

export interface Threshold {
  value: number;
  label: string;
}

/** Something that happened at a moment, with where to read more. */
export interface Mark {
  id: string;
  at: number;
  tone: Tone;
  label: string;
  detail: string;
  to: string;
}

export type Format = (value: number | null | undefined) => string;

export interface ChartModel {
  x: number[];
  lines: Line[];
  bands?: Band[];
  threshold?: Threshold | undefined;
  marks?: Mark[];
  format: Format;
  /** Seconds since 1970 between which the chart shows time; without it, all of x. */
  span?: { from: number; to: number } | undefined;
}

/** Top of the y axis: all values fit, and the threshold too unless it is so far above that it would flatten them. */
export function ceiling(model: ChartModel): number {
  let top = 0;
  for (const line of model.lines)
    for (const value of line.values) if (typeof value === "number" && value > top) top = value;
  const threshold = model.threshold?.value ?? 0;
  if (threshold > top && (top === 0 || threshold <= top * 5)) top = threshold;
  return top === 0 ? 1 : top * 1.12;
}

/** What a reader without eyes on the canvas should know of it: per line the last value and the range. */
export function summary(title: string, model: ChartModel): string {
  const parts = model.lines
    .filter((line) => !line.edge)
    .map((line) => {
      const known = line.values.filter((value): value is number => typeof value === "number");
      const latest = known.at(-1);
      if (latest === undefined) return `${line.label}: no data`;
      const low = known.reduce((a, b) => Math.min(a, b), latest);
      const high = known.reduce((a, b) => Math.max(a, b), latest);
      return `${line.label}: last ${model.format(latest)}, between ${model.format(low)} and ${model.format(high)}`;
    });
  const threshold = model.threshold ? [`${model.threshold.label} ${model.format(model.threshold.value)}`] : [];
  return `${title}. ${[...parts, ...threshold].join(". ")}.`;
}
