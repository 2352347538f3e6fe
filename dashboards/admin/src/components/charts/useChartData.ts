import { useMemo } from "react";
import { type Subject, useDecisions, useLatestForecasts, useObservations } from "../../api/queries";
import { useRollouts } from "../../api/rollouts";
import { useNow } from "../../app/useNow";
import { RANGES, type RangeName, sinceOf } from "../../lib/range";
import { toSeconds } from "../../lib/series";
import { decisionMarks, rolloutMarks } from "./models";

/** What the charts of one pool or node need: windows, forecasts, flags, and the span from `range` ago to the forecast's end. */
export function useChartData(subject: Subject, poolId: string, range: RangeName) {
  const now = useNow();
  const observations = useObservations(subject, range, () => ({ since: sinceOf(range, Date.now()) }));
  const forecasts = useLatestForecasts(poolId);
  const decisions = useDecisions({ pool_id: poolId }, 100);
  const rollouts = useRollouts({ pool_id: poolId });

  const marks = useMemo(
    () => [
      ...decisionMarks(decisions.data?.pages.flatMap((page) => page.items) ?? []),
      ...rolloutMarks(rollouts.data?.pages.flatMap((page) => page.items) ?? []),
    ],
    [decisions.data, rollouts.data],
  );
  const horizon = Math.max(
    0,
    ...Object.values(forecasts.data ?? {}).flatMap((forecast) => forecast.points.map((point) => toSeconds(point.at))),
  );
  const to = Math.max(now / 1000, Math.min(horizon, now / 1000 + RANGES[range] / 2));
  const from = now / 1000 - RANGES[range];
  const span = useMemo(() => ({ from, to }), [from, to]);
  return { observations, windows: observations.data ?? NONE, forecasts: forecasts.data ?? {}, marks, span };
}

const NONE: never[] = [];
