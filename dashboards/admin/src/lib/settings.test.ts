import { describe, expect, it } from "vitest";
import type { Knob } from "../api/types";
import { changesBetween, changesText, knobProblem, knobText, withUnit } from "./settings";

const KNOB: Knob = {
  name: "max_batch_size",
  kind: "int",
  unit: "sequences",
  minimum: 1,
  maximum: 512,
  choices: [],
  default: 8,
  apply_mode: "live",
  safe_direction: "lower",
  changes_numerics: false,
  help: "",
};

describe("changesBetween", () => {
  it("names only what differs", () => {
    const changes = changesBetween({ a: 1, b: true, c: "x" }, { a: 2, b: true, c: "y" });
    expect(changes).toEqual({ a: [1, 2], c: ["x", "y"] });
    expect(changesText(changes)).toBe("a 1 → 2, c x → y");
    expect(changesText({})).toBe("no change");
  });
});

describe("knobProblem", () => {
  it("holds a number to kind and bounds", () => {
    expect(knobProblem(KNOB, 8)).toBeNull();
    expect(knobProblem(KNOB, 0)).toBe("at least 1");
    expect(knobProblem(KNOB, 513)).toBe("at most 512");
    expect(knobProblem(KNOB, 2.5)).toBe("a whole number is needed");
    expect(knobProblem(KNOB, "")).toBe("a number is needed");
  });
});

describe("knobText", () => {
  it("reads well", () => {
    expect(knobText(true)).toBe("on");
    expect(knobText(undefined)).toBe("–");
    expect(withUnit(8, KNOB)).toBe("8 sequences");
  });
});
