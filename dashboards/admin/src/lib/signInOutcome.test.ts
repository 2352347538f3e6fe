import { describe, expect, it } from "vitest";
import { signInOutcome } from "./signInOutcome";

describe("signInOutcome", () => {
  it("says why in words", () => {
    expect(signInOutcome("#sign-in=not-allowed")).toMatch(/groups/);
    expect(signInOutcome("#sign-in=something-new")).toMatch(/Try again/);
  });

  it("says nothing at any other address", () => {
    for (const hash of ["", "#", "#main", "#token=tt_x"]) expect(signInOutcome(hash)).toBeNull();
  });
});
