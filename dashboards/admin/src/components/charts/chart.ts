// The parts of a time chart, as plain values.
import { clock } from "../../lib/format";
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
  /** What the legend calls it; by default the forecast's 10 to 90 %, and "" for nothing. */
  label?: string;
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

/** What a chart runs over where that is not time, such as load. */
export interface Across {
  label: string;
  format: Format;
}

export interface ChartModel {
  x: number[];
  across?: Across;
  /** Where the y axis ends, for lines that leave the picture; by default all of them fit. */
  top?: number;
  lines: Line[];
  bands?: Band[];
  threshold?: Threshold | undefined;
  marks?: Mark[];
  /** A place on the x axis to look at. */
  here?: { at: number; label: string };
  format: Format;
  /** Seconds since 1970 between which the chart shows time; without it, all of x. */
  span?: { from: number; to: number } | undefined;
}

/** A place on the x axis in words. */
export function placeText(model: ChartModel, at: number): string {
  return model.across ? model.across.format(at) : clock(at * 1000);
}

/** Top of the y axis: all values fit, and the threshold too unless it is so far above that it would flatten them. */
export function ceiling(model: ChartModel): number {
  if (model.top !== undefined) return model.top;
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
