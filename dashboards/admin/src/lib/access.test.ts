import { describe, expect, it } from "vitest";
import {
  browserName,
  expiryOf,
  greatest,
  includes,
  nodeCommand,
  roleIn,
  rolesUpTo,
  tokenState,
  whatEnds,
} from "./access";

const NOW = Date.parse("2026-11-20T12:00:00Z");

describe("rolesUpTo", () => {
  it("ends with one's own", () => {
    expect(rolesUpTo("viewer")).toEqual(["viewer"]);
    expect(rolesUpTo("approver")).toEqual(["viewer", "operator", "approver"]);
  });
});

describe("greatest", () => {
  it("looks into single pools, too", () => {
    expect(greatest("viewer", { a: "operator", b: "approver" })).toBe("approver");
    expect(greatest("admin", { a: "viewer" })).toBe("admin");
  });
});

describe("roleIn", () => {
  const bob = { role: "viewer", pools: { a: "operator" } } as const;

  it("is more in a pool that was given, and what it is elsewhere", () => {
    expect(roleIn(bob, "a")).toBe("operator");
    expect(roleIn(bob, "b")).toBe("viewer");
    expect(roleIn({ role: "admin", pools: { a: "viewer" } }, "a")).toBe("admin");
  });

  it("allows what the roles before it allow", () => {
    expect(includes("approver", "operator")).toBe(true);
    expect(includes("operator", "approver")).toBe(false);
  });
});

describe("browserName", () => {
  it.each([
    ["Mozilla/5.0 (X11; Linux x86_64; rv:142.0) Gecko/20100101 Firefox/142.0", "Firefox 142 on Linux"],
    [
      "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML) HeadlessChrome/150.0.1 Safari/537.36",
      "Chrome 150 on Linux",
    ],
    ["Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/150.0 Safari/537.36 Edg/150.0", "Edge 150 on Windows"],
    [
      "Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) Version/19.0 Mobile/15E148 Safari/604.1",
      "Safari 19 on iOS",
    ],
    ["python-httpx2/1.0", "python-httpx2/1.0"],
    ["", "unknown"],
  ])("reads %s", (agent, name) => expect(browserName(agent)).toBe(name));
});

describe("tokenState", () => {
  it("puts revoked before expired", () => {
    const past = "2026-11-01T00:00:00Z";
    expect(tokenState({ revoked_at: past, expires_at: past }, NOW)).toBe("revoked");
    expect(tokenState({ revoked_at: null, expires_at: past }, NOW)).toBe("expired");
    expect(tokenState({ revoked_at: null, expires_at: null }, NOW)).toBe("active");
  });
});

describe("whatEnds", () => {
  it("counts and agrees with its verb", () => {
    expect(whatEnds(1, 0)).toBe("1 browser session ends as of the next request");
    expect(whatEnds(2, 1)).toBe("2 browser sessions and 1 API token end as of the next request");
    expect(whatEnds(0, 0)).toContain("no browser session");
  });
});

describe("expiryOf", () => {
  it("is days from now, or null", () => {
    expect(expiryOf("7", NOW)).toBe("2026-11-27T12:00:00.000Z");
    expect(expiryOf("never", NOW)).toBeNull();
  });
});

describe("nodeCommand", () => {
  it("is one command of a shell", () => {
    const lines = nodeCommand("https://trimtab.example", "tte_x").split("\n");
    expect(lines[1]).toBe("NODE_ENROLMENT_TOKEN=tte_x \\");
    expect(lines.slice(0, -1).every((line) => line.endsWith(" \\"))).toBe(true);
  });
});
