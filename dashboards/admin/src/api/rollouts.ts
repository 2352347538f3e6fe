import { keepPreviousData, useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { api, body } from "./client";
import { keys } from "./keys";
import type { Rollout } from "./types";

export type RolloutFilter = { pool_id?: string; active?: boolean; phase?: Rollout["phase"] };

export const useRollouts = (filter: RolloutFilter, limit = 30) =>
  useInfiniteQuery({
    queryKey: keys.rolloutsOf({ ...filter, limit }),
    queryFn: ({ pageParam: cursor, signal }) =>
      body(api.GET("/api/v1/rollouts", { params: { query: { ...filter, limit, cursor } }, signal })),
    initialPageParam: "",
    getNextPageParam: (page) => page.next_cursor || undefined,
    placeholderData: keepPreviousData,
  });

export const useRollout = (id: string) =>
  useQuery({
    queryKey: keys.rollout(id),
    queryFn: ({ signal }) =>
      body(api.GET("/api/v1/rollouts/{rollout_id}", { params: { path: { rollout_id: id } }, signal })),
    enabled: id !== "",
  });
