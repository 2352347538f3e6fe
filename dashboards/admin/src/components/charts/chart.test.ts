import { describe, expect, it } from "vitest";
import { seconds } from "../../lib/format";
import { type ChartModel, ceiling, summary } from "./chart";

function model(values: (number | null)[], threshold?: number): ChartModel {
  return {
    x: values.map((_, index) => index),
    lines: [{ label: "p95", ink: "series-1", values }],
    format: seconds,
    threshold: threshold === undefined ? undefined : { value: threshold, label: "SLO" },
  };
}

describe("ceiling", () => {
  it("leaves room above the highest value", () => {
    expect(ceiling(model([1, 2, null]))).toBeCloseTo(2.24);
  });

  it("shows the objective when that does not flatten the line", () => {
    expect(ceiling(model([0.5], 1))).toBeCloseTo(1.12);
    expect(ceiling(model([0.01], 1))).toBeCloseTo(0.0112);
    expect(ceiling(model([], 1))).toBeCloseTo(1.12);
  });

  it("is never zero", () => {
    expect(ceiling(model([0, null]))).toBe(1);
  });
});

describe("summary", () => {
  it("says in words what the canvas shows", () => {
    expect(summary("TTFT", model([0.2, null, 0.4], 1))).toBe(
      "TTFT. p95: last 400 ms, between 200 ms and 400 ms. SLO 1.00 s.",
    );
    expect(summary("TTFT", model([]))).toBe("TTFT. p95: no data.");
  });
});
