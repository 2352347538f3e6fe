import { useMemo } from "react";
import type { Subject } from "../../api/queries";
import type { Slo } from "../../api/types";
import { Failed, Loading } from "../States";
import { itlChart, loadChart, queueChart, stepChart, tokensChart, ttftChart } from "./models";
import { useRange } from "./RangePicker";
import { TimeChart } from "./TimeChart";
import { useChartData } from "./useChartData";

/**
 * Latency, load and queue of a pool or one node, with objective, forecast and flags.
 *
 * Forecasts are made per pool. A node's own offered load is a share of it, so the load's forecast is drawn for pools only;
 * latency is comparable and drawn for both.
 */
export function SubjectCharts({ subject, poolId, slo }: { subject: Subject; poolId: string; slo: Slo | undefined }) {
  const [range] = useRange();
  const { observations, windows, forecasts, marks, span } = useChartData(subject, poolId, range);
  const sync = `subject-${subject.id}`;
  const whole = subject.of === "pool";

  const ttft = useMemo(
    () =>
      ttftChart(windows, {
        forecast: forecasts.ttft_p95_s,
        apart: !whole,
        threshold: slo && { value: slo.ttft_p95_s, label: "SLO" },
        marks,
        span,
      }),
    [windows, forecasts.ttft_p95_s, whole, slo, marks, span],
  );
  const itl = useMemo(
    () =>
      itlChart(windows, {
        forecast: forecasts.itl_p95_s,
        apart: !whole,
        threshold: slo && { value: slo.itl_p95_s, label: "SLO" },
        marks,
        span,
      }),
    [windows, forecasts.itl_p95_s, whole, slo, marks, span],
  );
  const load = useMemo(
    () => loadChart(windows, { forecast: whole ? forecasts.offered_rps : undefined, marks, span }),
    [windows, forecasts.offered_rps, whole, marks, span],
  );
  const queue = useMemo(() => queueChart(windows, { marks, span }), [windows, marks, span]);
  const tokens = useMemo(() => tokensChart(windows, { marks, span }), [windows, marks, span]);

  const step = useMemo(() => stepChart(windows, { marks, span }), [windows, marks, span]);

  if (observations.isPending) return <Loading height={460} />;
  if (observations.isError && windows.length === 0)
    return <Failed error={observations.error} retry={() => void observations.refetch()} />;
  return (
    <div className="grid-2">
      <TimeChart title="Time to first token" model={ttft} sync={sync} />
      <TimeChart title="Time between tokens" model={itl} sync={sync} />
      <TimeChart title="Offered load" model={load} sync={sync} />
      <TimeChart title="Requests in the engine" model={queue} sync={sync} />
      <TimeChart title="Tokens" model={tokens} sync={sync} />
      <TimeChart title="Engine step" model={step} sync={sync} />
    </div>
  );
}
