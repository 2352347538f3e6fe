import { describe, expect, it } from "vitest";
import type { Rollout, RolloutNode } from "../api/types";
import { consequence, verbsFor } from "./rollouts";

function node(name: string, generation: number | null): RolloutNode {
  return {
    node_id: name,
    name,
    role: "canary",
    wave: 0,
    state: "PENDING",
    generation,
    dispatched_at: null,
    applied_at: null,
    detail: null,
  };
}

const SETTINGS: Rollout["to_revision"]["settings"] = {
  max_batch_size: 8,
  batch_wait_ms: 0,
  max_batched_tokens: 512,
  target_itl_ms: 0,
  precision: "bf16",
  kv_precision: "model",
  pruning_threshold: 0,
  prefix_cache: true,
  scheduling_policy: "fcfs",
  max_queue: 256,
};

const ROLLOUT: Rollout = {
  id: "r",
  pool_id: "p",
  pool: "demo",
  decision_id: null,
  phase: "CANARY",
  request: null,
  paused_by: null,
  phase_since: "2026-01-01T00:00:00Z",
  step: 0,
  steps: [],
  from_revision: { number: 3, content_hash: "hash3", settings: SETTINGS },
  to_revision: { number: 4, content_hash: "hash4", settings: SETTINGS },
  changes: {},
  nodes: [node("a", 7), node("b", null)],
  paused_reason: null,
  reason: "",
  outcome: null,
  created_by: "system",
  created_at: "2026-01-01T00:00:00Z",
  not_before: null,
  expires_at: null,
  approvals_needed: 0,
  approvals: [],
  ended_at: null,
  analyses: [],
  timeline: [],
};

describe("verbsFor", () => {
  it("offers only what makes sense in a phase", () => {
    expect(verbsFor({ phase: "PENDING_APPROVAL" })).toEqual(["abort"]);
    expect(verbsFor({ phase: "SUPERSEDED" })).toEqual([]);
    expect(verbsFor({ phase: "CANARY" })).toEqual(["pause", "abort"]);
    expect(verbsFor({ phase: "ANALYZING" })).toEqual(["pause", "promote", "abort"]);
    expect(verbsFor({ phase: "PAUSED" })).toEqual(["resume", "promote", "abort"]);
    expect(verbsFor({ phase: "COMPLETED" })).toEqual(["rollback"]);
    expect(verbsFor({ phase: "ROLLING_BACK" })).toEqual([]);
    expect(verbsFor({ phase: "ROLLED_BACK" })).toEqual([]);
  });
});

describe("consequence", () => {
  it("counts the nodes that a promotion would reach", () => {
    const { text, severe } = consequence("promote", ROLLOUT);
    expect(text).toContain("1 of 2 nodes in demo runs revision 4 now");
    expect(text).toContain("1 more node gets revision 4");
    expect(severe).toBe(true);
  });

  it("says when an abort has nothing to undo", () => {
    const untouched = { ...ROLLOUT, nodes: [node("a", null), node("b", null)] };
    expect(consequence("abort", untouched).text).toContain("Nothing has to be undone");
    expect(consequence("abort", ROLLOUT).text).toContain("Each goes back to revision 3");
  });
});
