import { keepPreviousData, type UseQueryResult, useInfiniteQuery, useQueries, useQuery } from "@tanstack/react-query";
import { get } from "./client";
import { keys } from "./keys";
import { Problem } from "./problem";
import type {
  Decision,
  Fleet,
  Forecast,
  Knob,
  Node,
  Observation,
  Page,
  Pool,
  Replay,
  Rollout,
  Session,
  System,
  TimelineEvent,
} from "./types";

export const useSession = () =>
  useQuery({
    queryKey: keys.session,
    queryFn: async ({ signal }): Promise<Session | null> => {
      try {
        return await get<Session>("/session", undefined, signal);
      } catch (error) {
        if (error instanceof Problem && error.status === 401) return null;
        throw error;
      }
    },
    staleTime: 60_000,
  });

export const useSystem = () =>
  useQuery({ queryKey: keys.system, queryFn: ({ signal }) => get<System>("/system", undefined, signal) });

export const useFleet = () =>
  useQuery({ queryKey: keys.fleet, queryFn: ({ signal }) => get<Fleet>("/fleet", undefined, signal) });

export const usePools = () =>
  useQuery({ queryKey: keys.pools, queryFn: ({ signal }) => get<Page<Pool>>("/pools", undefined, signal) });

export const usePool = (id: string) =>
  useQuery({
    queryKey: keys.pool(id),
    queryFn: ({ signal }) => get<Pool>(`/pools/${id}`, undefined, signal),
    enabled: id !== "",
  });

export const useNodes = (poolId?: string) =>
  useQuery({
    queryKey: keys.nodesOf(poolId),
    queryFn: ({ signal }) => get<Page<Node>>("/nodes", { pool_id: poolId }, signal),
  });

export const useNode = (id: string) =>
  useQuery({ queryKey: keys.node(id), queryFn: ({ signal }) => get<Node>(`/nodes/${id}`, undefined, signal) });

export type Span = { since: string; until?: string | undefined };

async function readObservations(subject: Subject, span: () => Span, signal: AbortSignal): Promise<Observation[]> {
  const { since, until } = span();
  const page = await get<Page<Observation>>(
    `/${subject.of}s/${subject.id}/observations`,
    { since, until, limit: 2000 },
    signal,
  );
  return page.items;
}

export type Subject = { of: "pool" | "node"; id: string };

/** Windows of a pool or node, oldest first. `name` tells spans apart in the cache; `span` is read at each request, so that "the last 30 min" moves on. */
export const useObservations = (subject: Subject, name: string, span: () => Span) =>
  useQuery({
    queryKey: keys.observationsOf(subject.id, name),
    queryFn: ({ signal }) => readObservations(subject, span, signal),
    placeholderData: keepPreviousData,
    enabled: subject.id !== "",
  });

/** The same for several nodes at once, in the order of `ids`; a node without an answer yet is empty. */
export const useObservationsOfNodes = (ids: string[], name: string, span: () => Span): Observation[][] =>
  useQueries({
    queries: ids.map((id) => ({
      queryKey: keys.observationsOf(id, name),
      queryFn: ({ signal }: { signal: AbortSignal }) => readObservations({ of: "node", id }, span, signal),
      placeholderData: keepPreviousData,
    })),
    combine: (results: UseQueryResult<Observation[]>[]) => results.map((result) => result.data ?? []),
  });

export const useLatestForecasts = (poolId: string) =>
  useQuery({
    queryKey: keys.forecastsOf(poolId, "latest"),
    queryFn: ({ signal }) => get<Record<string, Forecast>>(`/pools/${poolId}/forecasts/latest`, undefined, signal),
    enabled: poolId !== "",
  });

export const useForecasts = (poolId: string, metric: string, limit: number) =>
  useQuery({
    queryKey: keys.forecastsOf(poolId, `${metric}:${limit}`),
    queryFn: ({ signal }) => get<Page<Forecast>>(`/pools/${poolId}/forecasts`, { metric, limit }, signal),
    enabled: poolId !== "",
  });

type Filter = Record<string, string>;

export const useDecisions = (filter: Filter, limit = 50) =>
  useInfiniteQuery({
    queryKey: keys.decisionsOf({ ...filter, limit: String(limit) }),
    queryFn: ({ pageParam, signal }) =>
      get<Page<Decision>>("/decisions", { ...filter, limit, cursor: pageParam }, signal),
    initialPageParam: "",
    getNextPageParam: (page) => page.next_cursor || undefined,
    placeholderData: keepPreviousData,
  });

export const useDecision = (id: string) =>
  useQuery({
    queryKey: keys.decision(id),
    queryFn: ({ signal }) => get<Decision>(`/decisions/${id}`, undefined, signal),
  });

export const useReplay = (id: string) =>
  useQuery({
    queryKey: ["replay", id],
    queryFn: ({ signal }) => get<Replay>(`/decisions/${id}/replay`, undefined, signal),
    staleTime: Number.POSITIVE_INFINITY,
    refetchInterval: false,
  });

export const useRollouts = (filter: Filter, limit = 30) =>
  useInfiniteQuery({
    queryKey: keys.rolloutsOf({ ...filter, limit: String(limit) }),
    queryFn: ({ pageParam, signal }) =>
      get<Page<Rollout>>("/rollouts", { ...filter, limit, cursor: pageParam }, signal),
    initialPageParam: "",
    getNextPageParam: (page) => page.next_cursor || undefined,
    placeholderData: keepPreviousData,
  });

export const useRollout = (id: string) =>
  useQuery({
    queryKey: keys.rollout(id),
    queryFn: ({ signal }) => get<Rollout>(`/rollouts/${id}`, undefined, signal),
    enabled: id !== "",
  });

export const useEvents = (filter: Filter, limit = 20) =>
  useQuery({
    queryKey: keys.eventsOf({ ...filter, limit: String(limit) }),
    queryFn: ({ signal }) => get<Page<TimelineEvent>>("/events", { ...filter, limit }, signal),
    placeholderData: keepPreviousData,
  });

export const useKnobs = () =>
  useQuery({
    queryKey: keys.knobs,
    queryFn: ({ signal }) => get<Knob[] | Page<Knob> | Record<string, Knob>>("/knobs", undefined, signal),
    select: (answer): Knob[] =>
      Array.isArray(answer)
        ? answer
        : "items" in answer && Array.isArray(answer.items)
          ? answer.items
          : Object.values(answer),
    staleTime: Number.POSITIVE_INFINITY,
    refetchInterval: false,
  });
