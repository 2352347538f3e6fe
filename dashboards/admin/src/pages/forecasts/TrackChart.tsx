import { type ReactNode, useMemo } from "react";
import type { ForecastTrack } from "../../api/types";
import type { ChartModel } from "../../components/charts/chart";
import { TimeChart } from "../../components/charts/TimeChart";
import { toSeconds } from "../../lib/series";

interface TrackChartProps {
  title: string;
  track: ForecastTrack;
  slo: number | undefined;
  format: (value: number | null | undefined) => string;
  aside: ReactNode;
}

/** The band as it was foreseen, and what came. */
export function TrackChart({ title, track, slo, format, aside }: TrackChartProps) {
  const model = useMemo<ChartModel>(() => {
    const { points } = track;
    return {
      x: points.map((point) => toSeconds(point.at)),
      lines: [
        { label: "What came", ink: "series-1", values: points.map((point) => point.came) },
        { label: "Foreseen 10 %", ink: "forecast", values: points.map((point) => point.q10), edge: true },
        { label: "Foreseen", ink: "forecast", values: points.map((point) => point.q50), dashed: true },
        { label: "Foreseen 90 %", ink: "forecast", values: points.map((point) => point.q90), edge: true },
      ],
      bands: [{ upper: 3, lower: 1, ink: "forecast" }],
      threshold: slo === undefined ? undefined : { value: slo, label: "SLO" },
      format,
    };
  }, [track, slo, format]);
  return (
    <TimeChart
      title={title}
      model={model}
      height={240}
      aside={aside}
      empty="No forecast of this span reaches so far ahead: the policy says how far is looked."
    />
  );
}
