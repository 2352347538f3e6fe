import { QueryCache, QueryClient } from "@tanstack/react-query";
import { createContext, use, useSyncExternalStore } from "react";
import { keys } from "../api/keys";
import { type LiveState, LiveStream } from "../api/live";
import { Problem } from "../api/problem";

const POLL_MS = 15_000;
/** With the stream up, a safety net: a message may be lost, and a connection may be dead without the browser noticing. */
const SLOW_POLL_MS = 30_000;

/** Asked by every query before its next poll: the stream makes polling needless, and its loss brings it back. */
function pollInterval(): number {
  return live.snapshot().connected ? SLOW_POLL_MS : POLL_MS;
}

export const queries: QueryClient = new QueryClient({
  queryCache: new QueryCache({
    onError: (error, query) => {
      // A session that ended under the page: asking for it again leads to the sign-in page.
      if (error instanceof Problem && error.status === 401 && query.queryKey[0] !== keys.session[0])
        void queries.invalidateQueries({ queryKey: keys.session });
    },
  }),
  defaultOptions: {
    // The API may be on this very machine: what the browser thinks of the network says nothing about it.
    mutations: { networkMode: "always" },
    queries: {
      networkMode: "always",
      staleTime: 2_000,
      refetchInterval: pollInterval,
      refetchOnWindowFocus: true,
      retry: (failures, error) =>
        failures < 2 && (!(error instanceof Problem) || error.status === 0 || error.status >= 500),
    },
  },
});

export const live = new LiveStream(queries);

export const LiveContext = createContext<LiveStream>(live);

export function useLive(): LiveState {
  const stream = use(LiveContext);
  return useSyncExternalStore(stream.subscribe, stream.snapshot);
}
