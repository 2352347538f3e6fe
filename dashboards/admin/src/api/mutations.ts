import { useMutation, useQueryClient } from "@tanstack/react-query";
import { api, body } from "./client";
import { keys } from "./keys";
import { Problem } from "./problem";
import type { EngineSettings, Rollout, RolloutPlan } from "./types";

export type RolloutVerb = "pause" | "resume" | "promote" | "abort" | "rollback";

export interface RolloutOrder {
  pool_id: string;
  settings: EngineSettings;
  reason: string;
  /** Waits until somebody else approves it, whatever the policy says. */
  propose?: boolean;
}

/** A change; whatever came of it, what the page shows is asked for again. */
function useChange<Input, Output>(change: (input: Input) => Promise<Output>) {
  const queries = useQueryClient();
  return useMutation({ mutationFn: change, onSettled: () => queries.invalidateQueries() });
}

/** Asks for a verb. The answer is the rollout; for the rollback of a completed one it is the new rollout that leads back. */
export const useRolloutVerb = (id: string) =>
  useChange(({ verb, reason }: { verb: RolloutVerb; reason: string }): Promise<Rollout> => {
    const params = { path: { rollout_id: id } };
    return body(api.POST(`/api/v1/rollouts/{rollout_id}/${verb}`, { params, body: { reason } }));
  });

/** Agrees to the settings that the page shows, or refuses them: the answer is bound to their hash. */
export const useVote = (shown: Rollout) =>
  useChange(({ verdict, comment }: { verdict: "approve" | "refuse"; comment: string }): Promise<Rollout> => {
    const params = { path: { rollout_id: shown.id } };
    const vote = { settings_hash: shown.to_revision.content_hash, comment };
    return body(api.POST(`/api/v1/rollouts/{rollout_id}/${verdict}`, { params, body: vote }));
  });

export const useCreateRollout = () =>
  useChange(async (order: RolloutOrder): Promise<Rollout> => {
    const answer = await body(api.POST("/api/v1/rollouts", { body: { propose: false, ...order, dry_run: false } }));
    if ("dry_run" in answer) throw new Problem(-1, "The API answered with a plan", "A rollout was asked for.");
    return answer;
  });

/** What a rollout would do; changes nothing. */
export const usePlanRollout = () =>
  useMutation({
    mutationFn: async (order: RolloutOrder): Promise<RolloutPlan> => {
      const answer = await body(api.POST("/api/v1/rollouts", { body: { propose: false, ...order, dry_run: true } }));
      if (!("dry_run" in answer)) throw new Problem(-1, "The API answered with a rollout", "A plan was asked for.");
      return answer;
    },
  });

export const useFreeze = (poolId: string) =>
  useChange((reason: string) =>
    body(api.POST("/api/v1/pools/{pool_id}/freeze", { params: { path: { pool_id: poolId } }, body: { reason } })),
  );

export const useUnfreeze = (poolId: string) =>
  useChange(() => body(api.DELETE("/api/v1/pools/{pool_id}/freeze", { params: { path: { pool_id: poolId } } })));

export const useFreezeEverything = () =>
  useChange((reason: string) => body(api.POST("/api/v1/freeze", { body: { reason } })));

export const useUnfreezeEverything = () => useChange(() => body(api.DELETE("/api/v1/freeze")));

/** Takes back what is tried on one node before its lease does. */
export const useEndExperiment = (nodeId: string) =>
  useChange(() => body(api.DELETE("/api/v1/nodes/{node_id}/experiment", { params: { path: { node_id: nodeId } } })));

export type ProfileKind = "cpu" | "torch";

/** Records a node for some seconds. Only its list of recordings grows old by it. */
export function useStartRecording(nodeId: string) {
  const queries = useQueryClient();
  return useMutation({
    mutationFn: (order: { kind: ProfileKind; seconds: number }) =>
      body(api.POST("/api/v1/nodes/{node_id}/profiles", { params: { path: { node_id: nodeId } }, body: order })),
    onSettled: () => queries.invalidateQueries({ queryKey: keys.recordings(nodeId) }),
  });
}

export function useSignOut() {
  const queries = useQueryClient();
  return useMutation({
    mutationFn: () => body(api.POST("/api/v1/session/oidc/end")),
    // Who came in by the identity provider leaves there, too: else the next click would let them in again.
    onSuccess: ({ url }) => {
      queries.clear();
      window.location.assign(url ?? "/");
    },
  });
}
