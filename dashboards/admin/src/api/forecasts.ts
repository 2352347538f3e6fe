import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { api, body } from "./client";
import { keys } from "./keys";

export type ForecastMetric = "offered_rps" | "ttft_p95_s" | "itl_p95_s";

/** How right forecasts have been, per horizon. */
export const useForecastQuality = (poolId: string, metric: ForecastMetric, span_s: number) =>
  useQuery({
    queryKey: keys.forecastsOf(poolId, `quality:${metric}:${span_s}`),
    queryFn: ({ signal }) =>
      body(
        api.GET("/api/v1/pools/{pool_id}/forecasts/quality", {
          params: { path: { pool_id: poolId }, query: { metric, span_s } },
          signal,
        }),
      ),
    enabled: poolId !== "",
    placeholderData: keepPreviousData,
  });

/** What was foreseen so far ahead, beside what came, and who foresaw it. */
export const useForecastTrack = (poolId: string, metric: ForecastMetric, horizon_s: number, span_s: number) =>
  useQuery({
    queryKey: keys.forecastsOf(poolId, `track:${metric}:${horizon_s}:${span_s}`),
    queryFn: ({ signal }) =>
      body(
        api.GET("/api/v1/pools/{pool_id}/forecasts/track", {
          params: { path: { pool_id: poolId }, query: { metric, horizon_s, span_s } },
          signal,
        }),
      ),
    enabled: poolId !== "",
    placeholderData: keepPreviousData,
  });
