import { useMemo } from "react";
import { useObservationsOfNodes, usePool } from "../../api/queries";
import type { Analysis, Observation, Rollout, RolloutNode } from "../../api/types";
import type { ChartModel, Format, Mark, Threshold } from "../../components/charts/chart";
import { TimeChart } from "../../components/charts/TimeChart";
import { effect, number, perSecond, seconds } from "../../lib/format";
import { type Fact, meanOver, merge, toSeconds } from "../../lib/series";
import classes from "./Rollouts.module.css";

const BEFORE_S = 180;
const AFTER_S = 60;
const METRICS: [Fact, string, Format][] = [
  ["ttft_p95_s", "Time to first token p95", seconds],
  ["itl_p95_s", "Time between tokens p95", seconds],
  ["e2e_p95_s", "Whole request p95", seconds],
  ["generation_tokens_per_s", "Generated tokens", perSecond],
];

function isCanary(node: RolloutNode): boolean {
  return node.role.toLowerCase() === "canary";
}

/** Canary and baseline over each other, from before the change until after its end. */
export function CompareCharts({ rollout }: { rollout: Rollout }) {
  const pool = usePool(rollout.pool_id);
  const start = toSeconds(rollout.created_at) - BEFORE_S;
  const end = rollout.ended_at ? toSeconds(rollout.ended_at) + AFTER_S : undefined;
  const nodes = rollout.nodes;
  const series = useObservationsOfNodes(
    nodes.map((node) => node.node_id),
    `rollout ${rollout.id} ${end ?? "on"}`,
    () => ({
      since: new Date(start * 1000).toISOString(),
      until: end ? new Date(end * 1000).toISOString() : undefined,
    }),
  );
  const marks = useMemo(() => appliedMarks(rollout), [rollout]);
  const models = useMemo(() => {
    const canary = series.filter((_, index) => nodes[index] !== undefined && isCanary(nodes[index]));
    const baseline = series.filter((_, index) => nodes[index] !== undefined && !isCanary(nodes[index]));
    return METRICS.map(([fact, title, format]) => ({ title, model: compare(canary, baseline, fact, format, marks) }));
  }, [series, nodes, marks]);
  const slo = pool.data?.slo;
  const thresholds: (Threshold | undefined)[] = slo
    ? [
        { value: slo.ttft_p95_s, label: "SLO" },
        { value: slo.itl_p95_s, label: "SLO" },
      ]
    : [];
  return (
    <div className={classes.charts}>
      {models.map(({ title, model }, index) => (
        <TimeChart
          key={title}
          title={title}
          model={thresholds[index] ? { ...model, threshold: thresholds[index] } : model}
          height={150}
          aside={<Found metric={METRICS[index]?.[0]} analyses={rollout.analyses} />}
          sync={`rollout-${rollout.id}`}
        />
      ))}
    </div>
  );
}

/** The latest verdict on the metric: effect, interval and how many samples it rests on. */
function Found({ metric, analyses }: { metric: Fact | undefined; analyses: Analysis[] }) {
  const found = analyses[0]?.measurements.find((each) => each.metric === metric);
  if (!found || found.effect_ratio === null) return null;
  return (
    <span className="nowrap">
      {effect(found.effect_ratio)}
      {found.ci_low !== null && found.ci_high !== null && ` (${effect(found.ci_low)} to ${effect(found.ci_high)})`}, n ={" "}
      {number(found.samples_canary)} / {number(found.samples_baseline)}
    </span>
  );
}

function compare(
  canary: Observation[][],
  baseline: Observation[][],
  fact: Fact,
  format: Format,
  marks: Mark[],
): ChartModel {
  const window_s = canary.flat()[0]?.window_s ?? baseline.flat()[0]?.window_s ?? 5;
  const slot_s = Math.max(1, Math.round(window_s));
  const { x, y } = merge([meanOver(canary, fact, slot_s), meanOver(baseline, fact, slot_s)]);
  return {
    x,
    lines: [
      { label: "Canary", ink: "series-1", values: y[0] ?? [] },
      { label: "Baseline", ink: "idle", values: y[1] ?? [], dashed: true },
    ],
    format,
    marks,
  };
}

function appliedMarks(rollout: Rollout): Mark[] {
  return rollout.nodes.flatMap((node) =>
    node.applied_at
      ? [
          {
            id: node.node_id,
            at: toSeconds(node.applied_at),
            tone: isCanary(node) ? ("accent" as const) : ("idle" as const),
            label: `${node.name} changed`,
            detail: `Generation ${node.generation ?? "?"} in force`,
            to: `/nodes/${node.node_id}`,
          },
        ]
      : [],
  );
}
