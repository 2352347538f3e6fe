import { keepPreviousData, type UseQueryResult, useInfiniteQuery, useQueries, useQuery } from "@tanstack/react-query";
import { isSpeedscope, type Speedscope } from "../lib/flame";
import { api, body } from "./client";
import { keys } from "./keys";
import { Problem } from "./problem";
import type { Observation, Session } from "./types";

/** Who is signed in; null for nobody. `enabled` false while a sign-in is under way. */
export const useSession = (enabled = true) =>
  useQuery({
    queryKey: keys.session,
    enabled,
    queryFn: async ({ signal }): Promise<Session | null> => {
      try {
        return (await body(api.GET("/api/v1/session", { signal }))) ?? null; // 204: nobody
      } catch (error) {
        if (error instanceof Problem && error.status === 401) return null;
        throw error;
      }
    },
    staleTime: 60_000,
  });

export const useSystem = () =>
  useQuery({ queryKey: keys.system, queryFn: ({ signal }) => body(api.GET("/api/v1/system", { signal })) });

export const useFleet = () =>
  useQuery({ queryKey: keys.fleet, queryFn: ({ signal }) => body(api.GET("/api/v1/fleet", { signal })) });

export const usePools = () =>
  useQuery({ queryKey: keys.pools, queryFn: ({ signal }) => body(api.GET("/api/v1/pools", { signal })) });

export const usePool = (id: string) =>
  useQuery({
    queryKey: keys.pool(id),
    queryFn: ({ signal }) => body(api.GET("/api/v1/pools/{pool_id}", { params: { path: { pool_id: id } }, signal })),
    enabled: id !== "",
  });

export const useNodes = (poolId?: string) =>
  useQuery({
    queryKey: keys.nodesOf(poolId),
    queryFn: ({ signal }) =>
      body(api.GET("/api/v1/nodes", { params: { query: poolId ? { pool_id: poolId } : {} }, signal })),
  });

export const useNode = (id: string) =>
  useQuery({
    queryKey: keys.node(id),
    queryFn: ({ signal }) => body(api.GET("/api/v1/nodes/{node_id}", { params: { path: { node_id: id } }, signal })),
  });

export type Subject = { of: "pool" | "node"; id: string };
export type Span = { since: string; until?: string | undefined };

/** As many windows as the API gives at once. */
const MOST_WINDOWS = 2000;

async function readObservations({ of, id }: Subject, span: Span, signal: AbortSignal): Promise<Observation[]> {
  const query = { since: span.since, ...(span.until ? { until: span.until } : {}), limit: MOST_WINDOWS };
  const page =
    of === "pool"
      ? await body(
          api.GET("/api/v1/pools/{pool_id}/observations", { params: { path: { pool_id: id }, query }, signal }),
        )
      : await body(
          api.GET("/api/v1/nodes/{node_id}/observations", { params: { path: { node_id: id }, query }, signal }),
        );
  return page.items;
}

/** Windows of a pool or node, oldest first. `name` tells spans apart in the cache; `span` is read at each request, so that "the last 30 min" moves on. */
export const useObservations = (subject: Subject, name: string, span: () => Span) =>
  useQuery({
    queryKey: keys.observationsOf(subject.id, name),
    queryFn: ({ signal }) => readObservations(subject, span(), signal),
    placeholderData: keepPreviousData,
    enabled: subject.id !== "",
  });

/** The same for several nodes at once, in the order of `ids`; a node without an answer yet is empty. */
export const useObservationsOfNodes = (ids: string[], name: string, span: () => Span): Observation[][] =>
  useQueries({
    queries: ids.map((id) => ({
      queryKey: keys.observationsOf(id, name),
      queryFn: ({ signal }: { signal: AbortSignal }) => readObservations({ of: "node", id }, span(), signal),
      placeholderData: keepPreviousData,
    })),
    combine: dataOfAll,
  });

function dataOfAll(results: UseQueryResult<Observation[]>[]): Observation[][] {
  return results.map((result) => result.data ?? []);
}

export const useLatestForecasts = (poolId: string) =>
  useQuery({
    queryKey: keys.forecastsOf(poolId, "latest"),
    queryFn: ({ signal }) =>
      body(api.GET("/api/v1/pools/{pool_id}/forecasts/latest", { params: { path: { pool_id: poolId } }, signal })),
    enabled: poolId !== "",
  });

export const useForecasts = (poolId: string, metric: "offered_rps" | "ttft_p95_s" | "itl_p95_s", limit: number) =>
  useQuery({
    queryKey: keys.forecastsOf(poolId, `${metric}:${limit}`),
    queryFn: ({ signal }) =>
      body(
        api.GET("/api/v1/pools/{pool_id}/forecasts", {
          params: { path: { pool_id: poolId }, query: { metric, limit } },
          signal,
        }),
      ),
    enabled: poolId !== "",
  });

export type DecisionFilter = { pool_id?: string; outcome?: "APPLY" | "HOLD" | "REJECT" | "ADVISE" };

export const useDecisions = (filter: DecisionFilter, limit = 50) =>
  useInfiniteQuery({
    queryKey: keys.decisionsOf({ ...filter, limit: String(limit) }),
    queryFn: ({ pageParam: cursor, signal }) =>
      body(api.GET("/api/v1/decisions", { params: { query: { ...filter, limit, cursor } }, signal })),
    initialPageParam: "",
    getNextPageParam: (page) => page.next_cursor || undefined,
    placeholderData: keepPreviousData,
  });

export const useDecision = (id: string) =>
  useQuery({
    queryKey: keys.decision(id),
    queryFn: ({ signal }) =>
      body(api.GET("/api/v1/decisions/{decision_id}", { params: { path: { decision_id: id } }, signal })),
  });

/** What came of a decision. It grows for an hour after the change. */
export const useEffectOf = (id: string) =>
  useQuery({
    queryKey: keys.effect(id),
    queryFn: ({ signal }) =>
      body(api.GET("/api/v1/decisions/{decision_id}/effect", { params: { path: { decision_id: id } }, signal })),
  });

/** A replay costs the server a decision, and its answer changes only with the code: asked for once. */
export const useReplay = (id: string) =>
  useQuery({
    queryKey: ["replay", id],
    queryFn: ({ signal }) =>
      body(api.GET("/api/v1/decisions/{decision_id}/replay", { params: { path: { decision_id: id } }, signal })),
    staleTime: Number.POSITIVE_INFINITY,
    refetchInterval: false,
  });

export type EventFilter = { pool_id?: string; node_id?: string; rollout_id?: string };

export const useEvents = (filter: EventFilter, limit = 20) =>
  useQuery({
    queryKey: keys.eventsOf({ ...filter, limit: String(limit) }),
    queryFn: ({ signal }) => body(api.GET("/api/v1/events", { params: { query: { ...filter, limit } }, signal })),
    placeholderData: keepPreviousData,
  });

export const useRevisions = (poolId: string, limit = 12) =>
  useQuery({
    queryKey: keys.revisions(poolId),
    queryFn: ({ signal }) =>
      body(api.GET("/api/v1/revisions", { params: { query: { pool_id: poolId, limit } }, signal })),
    enabled: poolId !== "",
  });

/** What service taught of the pool's step times, by level. */
export const useStepModels = (poolId: string) =>
  useQuery({
    queryKey: keys.stepModels(poolId),
    queryFn: ({ signal }) =>
      body(api.GET("/api/v1/pools/{pool_id}/performance", { params: { path: { pool_id: poolId } }, signal })),
    enabled: poolId !== "",
  });

/** A node's recordings of the last hour, newest first; looked at every second while one is under way. */
export const useRecordings = (nodeId: string, enabled: boolean) =>
  useQuery({
    queryKey: keys.recordings(nodeId),
    queryFn: ({ signal }) =>
      body(api.GET("/api/v1/nodes/{node_id}/profiles", { params: { path: { node_id: nodeId } }, signal })),
    select: (page) => page.items,
    enabled,
    refetchInterval: (query) => (query.state.data?.items.some((item) => item.state === "running") ? 1000 : false),
  });

/** A finished cpu recording as a file of speedscope's. It never changes. */
export const useFlame = (nodeId: string, id: string) =>
  useQuery({
    queryKey: keys.flame(nodeId, id),
    queryFn: async ({ signal }): Promise<Speedscope> => {
      const params = { path: { node_id: nodeId, recording_id: id } };
      const file: unknown = await body(
        api.GET("/api/v1/nodes/{node_id}/profiles/{recording_id}/file", { params, signal }),
      );
      if (!isSpeedscope(file)) throw new Problem(-1, "The recording cannot be shown", "It is no flame graph.");
      return file;
    },
    staleTime: Number.POSITIVE_INFINITY,
    refetchInterval: false,
  });

export const useKnobs = () =>
  useQuery({
    queryKey: keys.knobs,
    queryFn: ({ signal }) => body(api.GET("/api/v1/knobs", { signal })),
    select: (page) => page.items,
    staleTime: Number.POSITIVE_INFINITY,
    refetchInterval: false,
  });
