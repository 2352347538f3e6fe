import type { ErrorBudget, Pool } from "../../api/types";
import { Metric, Metrics, Target } from "../../components/Metric";
import { number, percent, perSecond, seconds } from "../../lib/format";
import { errorRate } from "../../lib/series";

/** How the pool does against its objective in the latest window, and how likely it is to miss it soon. */
export function PoolFigures({ pool }: { pool: Pool }) {
  const { latest, slo, breach_probability: breach } = pool;
  const stale = latest !== null && latest.quality !== "ok";
  return (
    <Metrics>
      <Target label="TTFT p95" value={latest?.ttft_p95_s} target={slo.ttft_p95_s} format={seconds} />
      <Target label="ITL p95" value={latest?.itl_p95_s} target={slo.itl_p95_s} format={seconds} />
      <Target label="Errors" value={errorRate(latest)} target={slo.error_rate} format={percent} />
      <Metric
        label="Breach ahead"
        value={percent(breach)}
        note="probability"
        {...(breach !== null && breach >= 0.5 ? { tone: "bad" } : { tone: "forecast" })}
      />
      <Budget budget={pool.error_budget} />
      <Metric
        label="Offered"
        value={perSecond(latest?.offered_rps)}
        note={stale ? `measurements ${latest.quality}` : "requests"}
      />
      <Metric label="Generated" value={perSecond(latest?.generation_tokens_per_s)} note="tokens" />
      <Metric label="Running" value={number(latest?.running)} note={`${number(latest?.waiting)} waiting`} />
    </Metrics>
  );
}

/** How many times faster than it lasts the error budget was spent lately, and what follows from it. */
function Budget({ budget }: { budget: ErrorBudget | null }) {
  const rate = budget?.burn_rate ?? null;
  const word =
    rate === null ? "not known yet" : budget?.freezes ? "only protection" : rate > 1 ? "over budget" : "within budget";
  return (
    <Metric
      label="Budget burn"
      value={rate === null ? number(rate) : `${number(rate)}×`}
      note={word}
      {...(budget?.freezes ? { tone: "bad" } : rate !== null && rate > 1 ? { tone: "warn" } : {})}
    />
  );
}
