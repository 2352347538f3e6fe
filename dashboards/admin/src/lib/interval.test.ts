import { describe, expect, it } from "vitest";
import { place } from "./interval";

describe("place", () => {
  it("puts no change in the middle and is symmetric in ratios", () => {
    expect(place(1)).toBe(50);
    expect(place(2) - 50).toBeCloseTo(50 - place(0.5));
  });

  it("keeps what is beyond the scale at its ends", () => {
    expect(place(100)).toBe(100);
    expect(place(0)).toBe(0);
    expect(place(0.001)).toBe(0);
  });
});
