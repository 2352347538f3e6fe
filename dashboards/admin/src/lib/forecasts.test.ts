import { describe, expect, it } from "vitest";
import { coverageWords, modelUse, shareText, skill, warningsOf } from "./forecasts";

describe("skill", () => {
  it("is the share of the last value's error that is saved", () => {
    expect(skill({ error: 1, last_value_error: 4 })).toBe(0.75);
    expect(skill({ error: 6, last_value_error: 4 })).toBe(-0.5);
    expect(skill({ error: 1, last_value_error: 0 })).toBeNull();
  });
});

describe("coverageWords", () => {
  it("takes few forecasts for little evidence", () => {
    expect(coverageWords(0.7, 10)).toBe("as it should be");
    expect(coverageWords(0.7, 400)).toBe("too narrow");
    expect(coverageWords(0.9, 400)).toBe("wider than needed");
  });
});

describe("warnings", () => {
  it("are told with their interval, or not at all", () => {
    expect(shareText(0.84, [0.71, 0.92])).toBe("84 % (71 % to 92 %)");
    expect(shareText(0.84, null)).toBe("84 %");
    expect(shareText(null, null)).toBe("–");
  });

  it("are absent where the API does not tell of them", () => {
    expect(warningsOf({ horizons: [] })).toBeNull();
    expect(warningsOf({ warnings: [] })).toEqual([]);
  });
});

describe("modelUse", () => {
  it("adds up stints and shows models that lost the race, too", () => {
    const stint = (model: string, forecasts: number, until: string) => ({ model, forecasts, since: until, until });
    const found = modelUse({
      stints: [stint("a", 3, "2026-01-02"), stint("b", 1, "2026-01-01"), stint("a", 4, "2025-12-31")],
      scores: { a: 0.2, b: 0.3, c: 0.5 },
    });
    expect(found.map(({ model, forecasts, last }) => [model, forecasts, last])).toEqual([
      ["a", 7, "2026-01-02"],
      ["b", 1, "2026-01-01"],
      ["c", 0, ""],
    ]);
    expect(found[0]?.share).toBe(7 / 8);
  });
});
