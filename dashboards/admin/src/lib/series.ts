// Observations and forecasts as the columns that a chart wants: x in seconds since 1970, y or null where nothing was measured.
import type { Forecast, Observation, Slo } from "../api/types";

/** null is a gap that shows; undefined (from `merge`) only says that another series has a value here, and is drawn over. */
export type Value = number | null | undefined;
export type Fact = Exclude<keyof Observation, "window_end" | "window_s" | "quality">;

export interface Columns {
  x: number[];
  y: Value[][];
}

function clean(value: Value): number | null {
  return value === null || value === undefined || !Number.isFinite(value) ? null : value;
}

export function toSeconds(iso: string): number {
  return Date.parse(iso) / 1000;
}

/**
 * One column per fact. Where more than `maxGap` windows are missing, a row of nulls breaks the line: a gap in the
 * measurements must not look like a straight stretch of them.
 */
export function columnsOf(observations: Observation[], facts: Fact[], maxGap = 3): Columns {
  const x: number[] = [];
  const y: Value[][] = facts.map(() => []);
  let previous: number | null = null;
  for (const observation of observations) {
    const at = toSeconds(observation.window_end);
    if (previous !== null && at <= previous) continue;
    if (previous !== null && at - previous > maxGap * Math.max(observation.window_s, 5)) {
      x.push((previous + at) / 2);
      for (const column of y) column.push(null);
    }
    x.push(at);
    facts.forEach((fact, index) => {
      y[index]?.push(clean(observation[fact]));
    });
    previous = at;
  }
  return { x, y };
}

/** Several series on one common x, undefined where one has no value. */
export function merge(parts: Columns[]): Columns {
  const x = [...new Set(parts.flatMap((part) => part.x))].sort((a, b) => a - b);
  const place = new Map(x.map((at, index) => [at, index]));
  const y = parts.flatMap((part) =>
    part.y.map((column) => {
      const merged = new Array<Value>(x.length).fill(undefined);
      column.forEach((value, index) => {
        const at = part.x[index];
        const row = at === undefined ? undefined : place.get(at);
        if (row !== undefined) merged[row] = value;
      });
      return merged;
    }),
  );
  return { x, y };
}

/** q10, q50, q90 of a forecast; with `from` (the last measured value) the fan opens where the measurements end. */
export function fan(forecast: Forecast | undefined, from?: { at: number; value: number }): Columns {
  if (!forecast) return { x: [], y: [[], [], []] };
  const points = forecast.points.map((point) => ({ ...point, at: toSeconds(point.at) }));
  const ahead = from ? points.filter((point) => point.at > from.at) : points;
  const start = from && ahead.length > 0 ? [{ at: from.at, q10: from.value, q50: from.value, q90: from.value }] : [];
  const all = [...start, ...ahead];
  return {
    x: all.map((point) => point.at),
    y: [
      all.map((point) => clean(point.q10)),
      all.map((point) => clean(point.q50)),
      all.map((point) => clean(point.q90)),
    ],
  };
}

/** The last measured value of a column. */
export function last(columns: Columns, column = 0): { at: number; value: number } | undefined {
  const values = columns.y[column] ?? [];
  for (let index = values.length - 1; index >= 0; index -= 1) {
    const value = values[index];
    const at = columns.x[index];
    if (value !== null && value !== undefined && at !== undefined) return { at, value };
  }
  return undefined;
}

/** Mean over several subjects per time slot of `slot_s`, per fact: two nodes' windows rarely end at the same moment. */
export function meanOver(groups: Observation[][], fact: Fact, slot_s: number): Columns {
  const slots = new Map<number, { sum: number; count: number }>();
  for (const observation of groups.flat()) {
    const value = clean(observation[fact]);
    if (value === null) continue;
    const slot = Math.round(toSeconds(observation.window_end) / slot_s) * slot_s;
    const cell = slots.get(slot) ?? { sum: 0, count: 0 };
    slots.set(slot, { sum: cell.sum + value, count: cell.count + 1 });
  }
  const x = [...slots.keys()].sort((a, b) => a - b);
  return { x, y: [x.map((at) => slotMean(slots.get(at)))] };
}

function slotMean(cell: { sum: number; count: number } | undefined): Value {
  return cell && cell.count > 0 ? cell.sum / cell.count : null;
}

export function errorRate(observation: Observation | null | undefined): number | null {
  const { requests, errors } = observation ?? {};
  if (requests === null || requests === undefined || requests <= 0) return null;
  return (errors ?? 0) / requests;
}

/** Whether a window kept the objective; null when it measured nothing that could tell. */
export function withinSlo(observation: Observation, slo: Slo): boolean | null {
  const pairs: [number | null, number][] = [
    [clean(observation.ttft_p95_s), slo.ttft_p95_s],
    [clean(observation.itl_p95_s), slo.itl_p95_s],
    [errorRate(observation), slo.error_rate],
  ];
  const measured = pairs.filter(([value]) => value !== null);
  if (measured.length === 0) return null;
  return measured.every(([value, target]) => (value ?? 0) <= target);
}

/** Share of the judged windows that kept the objective, and how many were judged. */
export function attainment(observations: Observation[], slo: Slo): { share: number | null; windows: number } {
  const judged = observations.map((observation) => withinSlo(observation, slo)).filter((kept) => kept !== null);
  return { share: judged.length ? judged.filter(Boolean).length / judged.length : null, windows: judged.length };
}
