import { useMutation, useQueryClient } from "@tanstack/react-query";
import { send } from "./client";
import { keys } from "./keys";
import type { EngineSettings, Rollout } from "./types";

export type RolloutVerb = "pause" | "resume" | "promote" | "abort" | "rollback";

export interface RolloutOrder {
  pool_id: string;
  settings: EngineSettings;
  reason: string;
}

function useChange<Input, Output>(change: (input: Input) => Promise<Output>) {
  const queries = useQueryClient();
  return useMutation({ mutationFn: change, onSettled: () => queries.invalidateQueries() });
}

export const useRolloutVerb = (id: string) =>
  useChange((verb: RolloutVerb) => send<Rollout>("POST", `/rollouts/${id}/${verb}`));

export const useCreateRollout = () => useChange((order: RolloutOrder) => send<Rollout>("POST", "/rollouts", order));

/** What a rollout would do; changes nothing. */
export const usePlanRollout = () =>
  useMutation({
    mutationFn: (order: RolloutOrder) => send<Partial<Rollout>>("POST", "/rollouts", { ...order, dry_run: true }),
  });

export const useFreeze = (poolId: string) =>
  useChange((reason: string) => send<void>("POST", `/pools/${poolId}/freeze`, { reason }));

export const useUnfreeze = (poolId: string) => useChange(() => send<void>("DELETE", `/pools/${poolId}/freeze`));

export function useSignIn() {
  const queries = useQueryClient();
  return useMutation({
    mutationFn: (token: string) => send<void>("POST", "/session", { token }),
    onSuccess: () => queries.invalidateQueries({ queryKey: keys.session }),
  });
}

export function useSignOut() {
  const queries = useQueryClient();
  return useMutation({
    mutationFn: () => send<void>("DELETE", "/session"),
    onSuccess: () => {
      queries.clear();
      window.location.assign("/");
    },
  });
}
