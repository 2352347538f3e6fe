import { NativeSelect, SegmentedControl } from "@mantine/core";
import { useSearchParams } from "react-router";
import { type ForecastMetric, useForecastQuality, useForecastTrack } from "../../api/forecasts";
import { usePools } from "../../api/queries";
import type { Pool } from "../../api/types";
import { PageHeader } from "../../components/PageHeader";
import { Answer, Empty } from "../../components/States";
import { perSecond, seconds } from "../../lib/format";
import { HorizonTable } from "./HorizonTable";
import { ModelPanel } from "./ModelPanel";
import { TrackChart } from "./TrackChart";
import { WarningPanel } from "./WarningPanel";

const METRICS: Record<ForecastMetric, { label: string; format: (value: number | null | undefined) => string }> = {
  offered_rps: { label: "Load", format: perSecond },
  ttft_p95_s: { label: "TTFT p95", format: seconds },
  itl_p95_s: { label: "ITL p95", format: seconds },
};
const SPANS: Record<string, number> = { "15m": 900, "1h": 3600, "6h": 21_600 };
const HORIZONS: Record<string, number> = { "5 s": 5, "30 s": 30, "1 min": 60, "5 min": 300, "15 min": 900 };

function isMetric(text: string | null): text is ForecastMetric {
  return text !== null && text in METRICS;
}

export function ForecastsPage() {
  const pools = usePools();
  return (
    <Answer query={pools} height={520}>
      {({ items }) =>
        items.length > 0 ? (
          <Forecasts pools={items} />
        ) : (
          <>
            <PageHeader title="Forecasts" />
            <Empty title="No pool yet">It comes with the first node that joins.</Empty>
          </>
        )
      }
    </Answer>
  );
}

function Forecasts({ pools }: { pools: Pool[] }) {
  const [search, setSearch] = useSearchParams();
  const set = (name: string, value: string) =>
    setSearch(
      (before) => {
        before.set(name, value);
        return before;
      },
      { replace: true },
    );
  const pool = pools.find(({ id }) => id === search.get("pool")) ?? pools[0];
  const named = search.get("metric");
  const metric = isMetric(named) ? named : "offered_rps";
  const span = search.get("span") ?? "1h";
  const ahead = search.get("ahead") ?? "1 min";
  const span_s = SPANS[span] ?? 3600;
  const horizon_s = HORIZONS[ahead] ?? 60;
  const { label, format } = METRICS[metric];
  const quality = useForecastQuality(pool?.id ?? "", metric, span_s);
  const track = useForecastTrack(pool?.id ?? "", metric, horizon_s, span_s);
  if (!pool) return null;
  return (
    <>
      <PageHeader
        title="Forecasts"
        trail={[{ label: pool.name, to: `/pools/${pool.id}` }]}
        note="What was foreseen, what then came, and which model foresaw it."
        actions={
          <>
            {pools.length > 1 && (
              <NativeSelect
                size="xs"
                aria-label="Pool"
                value={pool.id}
                data={pools.map(({ id, name }) => ({ value: id, label: name }))}
                onChange={(event) => set("pool", event.currentTarget.value)}
              />
            )}
            <SegmentedControl
              size="xs"
              aria-label="Metric"
              value={metric}
              data={Object.entries(METRICS).map(([value, each]) => ({ value, label: each.label }))}
              onChange={(value) => set("metric", value)}
            />
            <SegmentedControl
              size="xs"
              aria-label="Time span"
              value={span in SPANS ? span : "1h"}
              data={Object.keys(SPANS)}
              onChange={(value) => set("span", value)}
            />
          </>
        }
      />
      <div className="stack">
        <Answer query={quality} height={150}>
          {(data) => <HorizonTable quality={data} format={format} />}
        </Answer>
        <Answer query={track} height={280}>
          {(data) => (
            <>
              <TrackChart
                title={`${label}, foreseen ${ahead} ahead`}
                track={data}
                slo={metric === "offered_rps" ? undefined : pool.slo[metric]}
                format={format}
                aside={
                  <NativeSelect
                    size="xs"
                    aria-label="How far ahead"
                    value={ahead in HORIZONS ? ahead : "1 min"}
                    data={Object.keys(HORIZONS)}
                    onChange={(event) => set("ahead", event.currentTarget.value)}
                  />
                }
              />
              <ModelPanel track={data} format={format} />
            </>
          )}
        </Answer>
        {quality.data && <WarningPanel quality={quality.data} />}
      </div>
    </>
  );
}
