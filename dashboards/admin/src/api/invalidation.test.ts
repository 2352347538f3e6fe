import { describe, expect, it } from "vitest";
import { STREAM_KINDS, staleAfter, staleAfterAll } from "./invalidation";
import { keys } from "./keys";

describe("staleAfter", () => {
  it("refreshes charts and cards on a tick", () => {
    expect(staleAfter("tick")).toEqual(expect.arrayContaining([keys.fleet, keys.observations, keys.forecasts]));
  });

  it("leaves charts alone when a rollout moves", () => {
    const stale = staleAfter("rollout.promoting");
    expect(stale).toContainEqual(keys.rollouts);
    expect(stale).not.toContainEqual(keys.observations);
  });

  it("refreshes the event lists for a kind it does not know", () => {
    expect(staleAfter("carrier.pigeon")).toEqual([keys.events]);
  });

  it("has an answer for every kind of the stream", () => {
    for (const kind of STREAM_KINDS) expect(staleAfter(kind).length).toBeGreaterThan(0);
    expect(staleAfter("control.leader_changed")).toContainEqual(keys.system);
  });
});

describe("reset", () => {
  it("makes everything old, since an empty key is the beginning of every key", () => {
    expect(staleAfter("reset")).toEqual([[]]);
  });
});

describe("staleAfterAll", () => {
  it("names each query once", () => {
    const stale = staleAfterAll(["rollout.started", "rollout.analysis", "node.settings_applied"]);
    expect(new Set(stale.map((key) => JSON.stringify(key))).size).toBe(stale.length);
    expect(stale).toContainEqual(keys.rollouts);
  });
});
