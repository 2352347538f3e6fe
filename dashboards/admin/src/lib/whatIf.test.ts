import { describe, expect, it } from "vitest";
import type { Knob } from "../api/types";
import { seconds } from "./format";
import { changeText, draftOf, ladder, loadProblem, nearest, problemsOf, questionOf, rangeText } from "./whatIf";

const BATCH = {
  name: "max_batch_size",
  kind: "int",
  minimum: 1,
  maximum: 512,
  default: 8,
  choices: [],
  help: "",
  unit: "sequences",
  apply_mode: "live",
  safe_direction: "lower",
  changes_numerics: false,
} as unknown as Knob;
const PRECISION = { ...BATCH, name: "precision", kind: "choice", choices: ["bf16", "int8"] } as Knob;

describe("draftOf", () => {
  it("keeps what belongs to the form, as it was typed", () => {
    const search = new URLSearchParams("pool=x&max_batch_size=1e&offered_rps=4.2&max_queue=3");
    expect(draftOf(search)).toEqual({ max_batch_size: "1e", offered_rps: "4.2" });
  });
});

describe("questionOf", () => {
  it("asks in numbers and words", () => {
    const draft = { max_batch_size: "12", precision: "int8", offered_rps: "4.5" };
    expect(questionOf(draft, [BATCH, PRECISION])).toEqual({
      settings: { max_batch_size: 12, precision: "int8" },
      offered_rps: 4.5,
    });
  });

  it("is nothing while something typed cannot be asked", () => {
    expect(questionOf({ max_batch_size: "0" }, [BATCH])).toBeNull();
    expect(questionOf({ offered_rps: "" }, [BATCH])).toBeNull();
    expect(questionOf({}, [])).toBeNull();
  });
});

describe("problemsOf", () => {
  it("names each field", () => {
    expect(problemsOf({ max_batch_size: "x", prompt_tokens: "0" }, [BATCH])).toEqual({
      max_batch_size: "a number is needed",
      prompt_tokens: "at least 1",
    });
    expect(loadProblem("offered_rps", "0")).toBe("more than 0");
    expect(loadProblem("offered_rps", "2e6")).toBe("at most 1,000,000");
  });
});

describe("ladder", () => {
  it("goes up by halves and doubles and holds both ends", () => {
    expect(ladder(1, 20)).toEqual([1, 2, 3, 4, 6, 8, 12, 16, 20]);
    expect(ladder(64, 200)).toEqual([64, 96, 128, 192, 200]);
    expect(nearest(ladder(1, 20), 13)).toBe(6);
  });
});

describe("words", () => {
  it("tells a range only where there is one", () => {
    expect(rangeText({ value: 1, low: 0.5, high: 2 }, seconds)).toBe("500 ms to 2.00 s");
    expect(rangeText({ value: 1, low: 1, high: 1 }, seconds)).toBe("");
  });

  it("tells changes in percent", () => {
    expect(changeText(2, 1)).toBe("−50 %");
    expect(changeText(1, 1.001)).toBe("±0 %");
    expect(changeText(0, 1)).toBe("");
    expect(changeText(1, 100)).toBe("> +999 %");
  });
});
