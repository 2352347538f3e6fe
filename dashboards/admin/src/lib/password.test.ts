import { describe, expect, it } from "vitest";
import { lengthOf, weakness } from "./password";

describe("weakness", () => {
  it("takes plain words, in any script", () => {
    expect(weakness("four plain words here", "ada")).toBeNull();
    expect(weakness("морской трамвай и чай", "ada")).toBeNull();
    expect(weakness("  spaces count, too ", "ada")).toBeNull();
  });

  it("says how many characters are missing", () => {
    expect(weakness("short", "ada")).toContain("10 more");
    expect(weakness("x".repeat(257), "ada")).toContain("at most 256");
  });

  it("sees repetition, and the name in any case", () => {
    expect(weakness("abababababababab", "ada")).toContain("too few different");
    expect(weakness("Ada.Lovelace1-trimtab", "ada.lovelace1")).toContain("little is left");
  });

  it("counts a symbol of two code units once, as the API does", () => {
    expect(lengthOf("🦀🦀")).toBe(2);
  });
});
