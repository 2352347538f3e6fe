import { describe, expect, it } from "vitest";
import type { Forecast, Observation, Slo } from "../api/types";
import { attainment, columnsOf, errorRate, fan, last, meanOver, merge, withinSlo } from "./series";

const SLO: Slo = { ttft_p95_s: 1, itl_p95_s: 0.2, error_rate: 0.01, attainment: 0.95 };

const NOTHING: Observation = {
  window_end: "",
  window_s: 5,
  quality: "ok",
  offered_rps: null,
  prompt_tokens_per_s: null,
  generation_tokens_per_s: null,
  requests: null,
  errors: null,
  rejected: null,
  running: null,
  waiting: null,
  kv_usage: null,
  ttft_p50_s: null,
  ttft_p95_s: null,
  itl_p50_s: null,
  itl_p95_s: null,
  e2e_p95_s: null,
  queue_p95_s: null,
  step_mean_s: null,
  decode_rows_mean: null,
  prefill_tokens_mean: null,
  prefix_hit_ratio: null,
  prompt_tokens_mean: null,
  generation_tokens_mean: null,
  nodes_up: null,
};

function seen(at_s: number, facts: Partial<Observation> = {}): Observation {
  return { ...NOTHING, window_end: new Date(at_s * 1000).toISOString(), ...facts };
}

const FORECAST: Forecast = {
  id: "f",
  metric: "offered_rps",
  made_at: new Date(100_000).toISOString(),
  model: "last_value",
  step_s: 5,
  scores: {},
  points: [
    { at: new Date(100_000).toISOString(), q10: 1, q50: 2, q90: 3 },
    { at: new Date(105_000).toISOString(), q10: 1, q50: 3, q90: 5 },
  ],
};

describe("columnsOf", () => {
  it("keeps what was not measured as null", () => {
    const columns = columnsOf(
      [seen(0, { offered_rps: 1 }), seen(5), seen(10, { offered_rps: Number.NaN })],
      ["offered_rps"],
    );
    expect(columns).toEqual({ x: [0, 5, 10], y: [[1, null, null]] });
  });

  it("breaks the line over a gap", () => {
    const columns = columnsOf([seen(0, { running: 1 }), seen(60, { running: 2 })], ["running"]);
    expect(columns).toEqual({ x: [0, 30, 60], y: [[1, null, 2]] });
  });

  it("drops a window that was seen before, since a chart needs a growing x", () => {
    expect(columnsOf([seen(5), seen(5), seen(4)], ["running"]).x).toEqual([5]);
  });
});

describe("merge", () => {
  it("aligns series on one axis", () => {
    const merged = merge([
      { x: [0, 10], y: [[1, 2]] },
      {
        x: [10, 20],
        y: [
          [7, 8],
          [9, null],
        ],
      },
    ]);
    expect(merged.x).toEqual([0, 10, 20]);
    expect(merged.y).toEqual([
      [1, 2, undefined],
      [undefined, 7, 8],
      [undefined, 9, null],
    ]);
  });
});

describe("fan", () => {
  it("opens at the last measured value and leaves the past out", () => {
    const columns = fan(FORECAST, { at: 102, value: 2.5 });
    expect(columns.x).toEqual([102, 105]);
    expect(columns.y).toEqual([
      [2.5, 1],
      [2.5, 3],
      [2.5, 5],
    ]);
  });

  it("is empty without a forecast, and whole without a start", () => {
    expect(fan(undefined).x).toEqual([]);
    expect(fan(FORECAST).x).toEqual([100, 105]);
  });
});

describe("last", () => {
  it("skips trailing gaps", () => {
    expect(last({ x: [0, 5, 10], y: [[1, 2, null]] })).toEqual({ at: 5, value: 2 });
    expect(last({ x: [0], y: [[null]] })).toBeUndefined();
  });
});

describe("meanOver", () => {
  it("averages nodes whose windows end at slightly different moments", () => {
    const columns = meanOver([[seen(10, { itl_p95_s: 0.1 })], [seen(11, { itl_p95_s: 0.3 })]], "itl_p95_s", 5);
    expect(columns.x).toEqual([10]);
    expect(columns.y[0]?.[0]).toBeCloseTo(0.2);
  });
});

describe("objective", () => {
  it("judges only what was measured", () => {
    expect(withinSlo(seen(0), SLO)).toBeNull();
    expect(withinSlo(seen(0, { ttft_p95_s: 0.9 }), SLO)).toBe(true);
    expect(withinSlo(seen(0, { ttft_p95_s: 0.9, itl_p95_s: 0.3 }), SLO)).toBe(false);
    expect(withinSlo(seen(0, { requests: 10, errors: 1 }), SLO)).toBe(false);
  });

  it("counts the share of judged windows", () => {
    const windows = [seen(0, { ttft_p95_s: 0.5 }), seen(5), seen(10, { ttft_p95_s: 2 })];
    expect(attainment(windows, SLO)).toEqual({ share: 0.5, windows: 2 });
    expect(attainment([], SLO)).toEqual({ share: null, windows: 0 });
  });

  it("has no error rate without requests", () => {
    expect(errorRate(seen(0, { requests: 0, errors: 0 }))).toBeNull();
    expect(errorRate(seen(0, { requests: 200, errors: 1 }))).toBe(0.005);
  });
});
