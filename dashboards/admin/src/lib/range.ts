/** Spans of time that charts offer; the choice stands in the URL as `?range=`. The longest is what the API gives in one answer. */
export const RANGES = { "5m": 300, "15m": 900, "30m": 1800, "2h": 7200 } as const;

export type RangeName = keyof typeof RANGES;

export const DEFAULT_RANGE: RangeName = "15m";

export function isRange(name: string | null): name is RangeName {
  return name !== null && name in RANGES;
}

export function sinceOf(range: RangeName, now: number): string {
  return new Date(now - RANGES[range] * 1000).toISOString();
}
