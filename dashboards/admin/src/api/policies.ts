import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import type { Document } from "../lib/policy";
import { api, body } from "./client";
import { keys } from "./keys";
import type { Policy } from "./types";

/** The policy in force and its version. Not asked for again by itself while it is edited: the API says when it has changed. */
export const usePolicy = (poolId: string) =>
  useQuery({
    queryKey: keys.policy(poolId),
    queryFn: ({ signal }) =>
      body(api.GET("/api/v1/pools/{pool_id}/policy", { params: { path: { pool_id: poolId } }, signal })),
    enabled: poolId !== "",
    refetchInterval: false,
  });

export const usePolicySchema = () =>
  useQuery({
    queryKey: ["policy-schema"],
    queryFn: ({ signal }) => body(api.GET("/api/v1/policy-schema", { signal })),
    staleTime: Number.POSITIVE_INFINITY,
    refetchInterval: false,
  });

export const usePolicyVersions = (poolId: string) =>
  useQuery({
    queryKey: keys.policyVersions(poolId),
    queryFn: ({ signal }) =>
      body(api.GET("/api/v1/pools/{pool_id}/policies", { params: { path: { pool_id: poolId } }, signal })),
    select: (page) => page.items,
  });

/** Saves what was made from `version`. 412 when somebody else has saved since. */
export function useSavePolicy(poolId: string) {
  const queries = useQueryClient();
  return useMutation({
    mutationFn: ({ document, version }: { document: Document; version: number }) =>
      body(
        api.PUT("/api/v1/pools/{pool_id}/policy", {
          params: { path: { pool_id: poolId }, header: { "if-match": `"${version}"` } },
          body: document as unknown as Policy, // made of the API's own description, and judged by it
        }),
      ),
    onSuccess: (saved) => {
      queries.setQueryData(keys.policy(poolId), saved);
      void queries.invalidateQueries({ queryKey: keys.pools });
      void queries.invalidateQueries({ queryKey: keys.policyVersions(poolId) });
    },
  });
}

/** What the decisions of the last hours would have been; changes nothing. */
export const useTryPolicy = (poolId: string) =>
  useMutation({
    mutationFn: ({ document, hours }: { document: Document; hours: number }) =>
      body(
        api.POST("/api/v1/pools/{pool_id}/policy/dry-run", {
          params: { path: { pool_id: poolId } },
          body: { document: document as unknown as Policy, hours },
        }),
      ),
  });
