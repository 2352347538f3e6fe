import { describe, expect, it } from "vitest";
import { entryLink } from "./entryLink";

describe("entryLink", () => {
  it("finds the token and the invitation", () => {
    expect(entryLink("#token=tt_a-b_c")).toEqual({ kind: "token", secret: "tt_a-b_c" });
    expect(entryLink("#invitation=tti_x")).toEqual({ kind: "invitation", secret: "tti_x" });
  });

  it("finds nothing in an anchor, an empty secret, or no hash", () => {
    for (const hash of ["", "#", "#main", "#token=", "#invitation=%20"]) expect(entryLink(hash)).toBeNull();
  });
});
