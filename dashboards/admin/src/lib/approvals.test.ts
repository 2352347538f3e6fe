import { describe, expect, it } from "vitest";
import type { Rollout } from "../api/types";
import { afterApproval, agreed, isOpenToVotes, standing, whyNotApprove } from "./approvals";

type Vote = Rollout["approvals"][number];

function vote(actor: string, agrees = true): Vote {
  return { actor, agrees, at: "2026-01-01T00:00:00Z", comment: "" };
}

function waiting(needed: number, ...approvals: Vote[]) {
  return { phase: "PENDING_APPROVAL", created_by: "ann", approvals_needed: needed, approvals } as const;
}

describe("isOpenToVotes", () => {
  it("ends when the rollout begins", () => {
    expect(isOpenToVotes({ phase: "PENDING_APPROVAL" })).toBe(true);
    expect(isOpenToVotes({ phase: "CANARY" })).toBe(false);
    expect(isOpenToVotes({ phase: "EXPIRED" })).toBe(false);
  });
});

describe("standing", () => {
  it("counts neither refusals nor whoever asked", () => {
    const rollout = waiting(2, vote("ann"), vote("bob"), vote("cy", false));
    expect(agreed(rollout)).toBe(1);
    expect(standing(rollout)).toBe("1 of 2 approvals");
    expect(standing(waiting(1))).toBe("needs 1 approval");
  });
});

describe("whyNotApprove", () => {
  it("lets an approver who did not ask", () => {
    expect(whyNotApprove(waiting(1), { name: "bob" }, "approver")).toBeNull();
    expect(whyNotApprove(waiting(1), { name: "bob" }, "admin")).toBeNull();
  });

  it("says what is in the way", () => {
    expect(whyNotApprove(waiting(1), { name: "bob" }, "operator")).toContain("Approvers");
    expect(whyNotApprove(waiting(1), { name: "ann" }, "admin")).toContain("somebody else");
    expect(whyNotApprove(waiting(2, vote("bob")), { name: "bob" }, "approver")).toContain("have approved");
  });

  it("lets a refusal be taken back", () => {
    expect(whyNotApprove(waiting(1, vote("bob", false)), { name: "bob" }, "approver")).toBeNull();
  });
});

describe("afterApproval", () => {
  it("tells whether it begins", () => {
    expect(afterApproval(waiting(2))).toBe("1 more approval will be needed before it begins.");
    expect(afterApproval(waiting(2, vote("bob")))).toContain("the rollout begins");
  });
});
