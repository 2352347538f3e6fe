import { useMemo } from "react";
import type { Slo, WhatIf } from "../../api/types";
import type { ChartModel } from "../../components/charts/chart";
import { TimeChart } from "../../components/charts/TimeChart";
import { perSecond, seconds } from "../../lib/format";

type Metric = "ttft_p95_s" | "itl_p95_s";

/** Past this many times the objective nobody needs to tell how bad it is. */
const TOP = 2.5;

/** Latency over load, both sides, with what each may be off by. */
export function LoadCharts({ answer, slo }: { answer: WhatIf; slo: Slo }) {
  const ttft = useMemo(() => model(answer, "ttft_p95_s", slo.ttft_p95_s), [answer, slo.ttft_p95_s]);
  const itl = useMemo(() => model(answer, "itl_p95_s", slo.itl_p95_s), [answer, slo.itl_p95_s]);
  return (
    <div className="grid-2">
      <TimeChart title="Time to first token over load" model={ttft} sync="what-if" height={220} />
      <TimeChart title="Time between tokens over load" model={itl} sync="what-if" height={220} />
    </div>
  );
}

function model({ now, then, load, changes }: WhatIf, metric: Metric, limit: number): ChartModel {
  const sides = then && Object.keys(changes).length > 0 ? [now, then] : [now];
  const lines = sides.flatMap((side, index): ChartModel["lines"] => {
    const ink = index === 0 ? ("idle" as const) : ("series-1" as const);
    const label = index === 0 ? "In force" : "What if";
    const of = (edge: "value" | "low" | "high") => side.curve.map((point) => point[metric][edge]);
    return [
      { label: `${label}, low`, ink, values: of("low"), edge: true },
      { label, ink, values: of("value"), dashed: index === 0 },
      { label: `${label}, high`, ink, values: of("high"), edge: true },
    ];
  });
  const highest = Math.max(...sides.flatMap((side) => side.curve.map((point) => point[metric].high)));
  return {
    x: now.curve.map((point) => point.rate),
    across: { label: "Requests per second", format: perSecond },
    top: Math.max(1.12 * limit, Math.min(1.12 * highest, TOP * limit)),
    lines,
    bands: sides.map((_, index) => ({
      upper: 3 * index + 2,
      lower: 3 * index,
      ink: index === 0 ? ("idle" as const) : ("series-1" as const),
      label: index === sides.length - 1 ? "range" : "",
    })),
    threshold: { value: limit, label: "SLO" },
    here: { at: load.offered_rps, label: perSecond(load.offered_rps) },
    format: seconds,
  };
}
