import { describe, expect, it } from "vitest";
import { ABSENT, ago, bytes, duration, effect, number, percent, plural, seconds, shortId, words } from "./format";

describe("seconds", () => {
  it.each([
    [0.0042, "4.2 ms"],
    [0.084, "84 ms"],
    [0.9994, "999 ms"],
    [0.9999, "1.00 s"],
    [1.234, "1.23 s"],
    [12.34, "12.3 s"],
    [0, "0 ms"],
  ])("%f reads %s", (value, text) => expect(seconds(value)).toBe(text));

  it("shows what is not known as absent", () => {
    expect(seconds(null)).toBe(ABSENT);
    expect(seconds(Number.NaN)).toBe(ABSENT);
  });
});

describe("percent", () => {
  it("never rounds something to nothing", () => {
    expect(percent(0)).toBe("0 %");
    expect(percent(0.00002)).toBe("< 0.01 %");
    expect(percent(0.0132)).toBe("1.3 %");
    expect(percent(0.93)).toBe("93 %");
  });
});

describe("effect", () => {
  it("is signed and relative to one", () => {
    expect(effect(1.12)).toBe("+12 %");
    expect(effect(0.915)).toBe("−8.5 %");
    expect(effect(1.0001)).toBe("±0 %");
    expect(effect(null)).toBe(ABSENT);
  });
});

describe("number and bytes", () => {
  it("keeps three significant digits", () => {
    expect(number(0.12345)).toBe("0.123");
    expect(number(1234.5)).toBe("1,235");
    expect(number(8)).toBe("8");
    expect(bytes(24_000_000_000)).toBe("24 GB");
  });
});

describe("time", () => {
  it("tells spans coarsely", () => {
    expect(duration(8)).toBe("8 s");
    expect(duration(75)).toBe("1 min 15 s");
    expect(duration(7500)).toBe("2 h 5 min");
    expect(duration(400_000)).toBe("4 d 15 h");
  });

  it("tells past and future apart", () => {
    const now = Date.parse("2026-01-01T12:00:00Z");
    expect(ago("2026-01-01T11:59:30Z", now)).toBe("30 s ago");
    expect(ago("2026-01-01T12:05:00Z", now)).toBe("in 5 min");
    expect(ago("2026-01-01T12:00:00Z", now)).toBe("just now");
  });
});

describe("names", () => {
  it("turns codes into words", () => {
    expect(words("breach_predicted")).toBe("Breach predicted");
    expect(words("ROLLING_BACK")).toBe("Rolling back");
    expect(words("within_slo")).toBe("Within SLO");
    expect(plural(1, "node")).toBe("1 node");
    expect(plural(2, "node")).toBe("2 nodes");
    expect(shortId("0192f7a0-0000-7000-8000-00000abcdef1")).toBe("0abcdef1");
  });
});
