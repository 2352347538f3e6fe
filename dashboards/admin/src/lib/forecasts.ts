// How good forecasts were, in words, and which model was in use.
import type { ForecastQuality, ForecastTrack } from "../api/types";
import { percent } from "./format";

export type Horizon = ForecastQuality["horizons"][number];

/** By what share the error is below that of the last value; below 0 it is worse. null where the last value had none. */
export function skill({ error, last_value_error }: Pick<Horizon, "error" | "last_value_error">): number | null {
  return last_value_error > 0 ? 1 - error / last_value_error : null;
}

/** What the share within the band says of it, nominally four in five. */
export function coverageWords(coverage: number, scored: number): string {
  // Half of a 95 % interval of a share of 0.8, as if forecasts did not overlap: less than that is chance at best.
  const chance = 1.96 * Math.sqrt((0.8 * 0.2) / Math.max(1, scored));
  if (coverage < 0.8 - chance) return "too narrow";
  if (coverage > 0.8 + chance) return "wider than needed";
  return "as it should be";
}

export interface ModelUse {
  model: string;
  forecasts: number;
  share: number;
  score: number | null;
  last: string;
}

/** Each model's share of the forecasts, the most used first, with its newest score. */
export function modelUse({ stints, scores }: Pick<ForecastTrack, "stints" | "scores">): ModelUse[] {
  const total = stints.reduce((sum, each) => sum + each.forecasts, 0);
  const found = new Map<string, ModelUse>();
  for (const [model, score] of Object.entries(scores))
    found.set(model, { model, forecasts: 0, share: 0, score, last: "" });
  for (const { model, forecasts, until } of stints) {
    const known = found.get(model) ?? { model, forecasts: 0, share: 0, score: null, last: "" };
    found.set(model, {
      ...known,
      forecasts: known.forecasts + forecasts,
      share: total > 0 ? (known.forecasts + forecasts) / total : 0,
      last: known.last > until ? known.last : until,
    });
  }
  return [...found.values()].sort((a, b) => b.forecasts - a.forecasts || (a.score ?? 0) - (b.score ?? 0));
}

/** How right the warnings of one setting have been. null: nothing to judge by. */
export interface WarningFigures {
  setting: string;
  warnings: number;
  unjudged: number;
  spikes: number;
  precision: number | null;
  precision_interval: readonly number[] | null;
  recall: number | null;
  recall_interval: readonly number[] | null;
  lead_s: number | null;
  false_per_day: number | null;
}

/** Those that the API tells beside the quality; null where it does not tell of warnings. */
export function warningsOf(quality: object): WarningFigures[] | null {
  const { warnings } = quality as { warnings?: WarningFigures[] };
  return Array.isArray(warnings) ? warnings : null;
}

/** "84 % (71 % to 92 %)" */
export function shareText(share: number | null, interval: readonly number[] | null): string {
  if (share === null) return "–";
  const [low, high] = interval ?? [];
  const range = low === undefined || high === undefined ? "" : ` (${percent(low, 0)} to ${percent(high, 0)})`;
  return `${percent(share, 0)}${range}`;
}
