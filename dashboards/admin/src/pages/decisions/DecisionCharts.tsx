import { useMemo } from "react";
import { useForecasts, useObservations } from "../../api/queries";
import type { Decision, Forecast, Slo } from "../../api/types";
import { useNow } from "../../app/useNow";
import type { Mark } from "../../components/charts/chart";
import { loadChart, overlay, ttftChart } from "../../components/charts/models";
import { TimeChart } from "../../components/charts/TimeChart";
import { outcomeLook } from "../../components/tones";
import { toSeconds } from "../../lib/series";

const BEFORE_S = 300;
const AFTER_S = 300;
const AHEAD_S = 75;
/** A forecast belongs to a decision when it was made in the same tick. */
const SAME_TICK_S = 30;

/** The forecast that a decision saw: the last one made up to its moment. */
function seenAt(forecasts: Forecast[], at: number): Forecast | undefined {
  return forecasts.find((forecast) => {
    const made = toSeconds(forecast.made_at);
    return made <= at + 2 && made >= at - SAME_TICK_S;
  });
}

/** The signal: what had been measured, what was foreseen at that moment, and what then came. */
export function DecisionCharts({ decision, slo }: { decision: Decision; slo: Slo | undefined }) {
  const at = toSeconds(decision.at);
  // Of a decision just made, only as much of the future as the forecast reaches.
  const age_s = useNow(15_000) / 1000 - at;
  const to = at + Math.min(AFTER_S, Math.max(AHEAD_S, age_s));
  const span = useMemo(() => ({ from: at - BEFORE_S, to }), [at, to]);
  const windows = useObservations({ of: "pool", id: decision.pool_id }, `around ${at}`, () => ({
    since: new Date((at - BEFORE_S) * 1000).toISOString(),
    until: new Date((at + AFTER_S) * 1000).toISOString(),
  }));
  const load = useForecasts(decision.pool_id, "offered_rps", 200);
  const ttft = useForecasts(decision.pool_id, "ttft_p95_s", 200);
  const seenLoad = seenAt(load.data?.items ?? [], at);
  const seenTtft = seenAt(ttft.data?.items ?? [], at);
  const marks = useMemo(() => [here(decision)], [decision]);
  const observations = windows.data;

  const loadModel = useMemo(
    () => overlay(loadChart(observations ?? [], { marks, span }), seenLoad),
    [observations, marks, span, seenLoad],
  );
  const ttftModel = useMemo(
    () =>
      overlay(
        ttftChart(observations ?? [], { threshold: slo && { value: slo.ttft_p95_s, label: "SLO" }, marks, span }),
        seenTtft,
      ),
    [observations, slo, marks, span, seenTtft],
  );
  const empty = "The measurements of that time are no longer kept.";
  return (
    <div className="grid-2">
      <TimeChart title="Offered load, foreseen and real" model={loadModel} sync={decision.id} empty={empty} />
      <TimeChart title="Time to first token, foreseen and real" model={ttftModel} sync={decision.id} empty={empty} />
    </div>
  );
}

function here(decision: Decision): Mark {
  const look = outcomeLook(decision.outcome);
  return {
    id: decision.id,
    at: toSeconds(decision.at),
    tone: look.tone,
    label: "This decision",
    detail: decision.explanation,
    to: `/decisions/${decision.id}`,
  };
}
