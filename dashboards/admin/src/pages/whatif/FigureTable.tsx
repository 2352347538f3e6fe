import type { Estimate, Outlook, Slo, WhatIf } from "../../api/types";
import { Panel } from "../../components/Panel";
import { ScrollX } from "../../components/ScrollX";
import { ABSENT, bytes, duration, percent, perSecond, plural, seconds } from "../../lib/format";
import { changeText, rangeText } from "../../lib/whatIf";
import classes from "./WhatIf.module.css";

type Format = (value: number | null | undefined) => string;

interface Row {
  label: string;
  aim?: string | undefined;
  of: (side: Outlook) => Estimate | null;
  format: Format;
  limit?: number | undefined;
  /** Which way is better; without it neither. */
  better?: "less" | "more";
}

function rows(slo: Slo): Row[] {
  return [
    {
      label: "Time to first token p95",
      aim: `objective ${seconds(slo.ttft_p95_s)}`,
      of: (side) => side.ttft_p95_s,
      format: latency,
      limit: slo.ttft_p95_s,
      better: "less",
    },
    {
      label: "Time between tokens p95",
      aim: `objective ${seconds(slo.itl_p95_s)}`,
      of: (side) => side.itl_p95_s,
      format: latency,
      limit: slo.itl_p95_s,
      better: "less",
    },
    {
      label: "Answer tokens",
      aim: "at that load",
      of: (side) => side.throughput_tokens_per_s,
      format: perSecond,
      better: "more",
    },
    {
      label: "Requests at most",
      aim: "of the whole pool",
      of: (side) => side.capacity_rps,
      format: perSecond,
      better: "more",
    },
    {
      label: "Quality loss",
      aim: "growth of perplexity",
      of: (side) => side.quality_loss,
      format: percent,
      better: "less",
    },
    {
      label: "KV cache",
      aim: "held by running requests",
      of: (side) => side.kv_share,
      format: percent,
      better: "less",
    },
  ];
}

/** Minutes of waiting read better as such. */
function latency(value: number | null | undefined): string {
  return typeof value === "number" && value >= 100 ? duration(value) : seconds(value);
}

/** What is expected of both sides under the same load, each figure with what it may be off by. */
export function FigureTable({ answer, slo }: { answer: WhatIf; slo: Slo }) {
  const { now, then, load } = answer;
  const changed = Object.keys(answer.changes).length > 0;
  return (
    <Panel
      flush
      title={`Expected at ${perSecond(load.offered_rps)}`}
      aside={<span>within {duration(load.horizon_s)}, the present queue included</span>}
    >
      <ScrollX label="Expected figures">
        <table className={`data-table ${classes.figures}`}>
          <thead>
            <tr>
              <th scope="col">Figure</th>
              <th scope="col" className="right">
                In force
              </th>
              <th scope="col" className="right">
                What if
              </th>
              <th scope="col" className="right">
                Change
              </th>
            </tr>
          </thead>
          <tbody>
            {rows(slo).map((row) => (
              <tr key={row.label}>
                <td>
                  <span>{row.label}</span>
                  <span className={classes.range}>{row.aim}</span>
                </td>
                <td className="right">
                  <Figure row={row} side={now} />
                </td>
                <td className="right">{then ? <Figure row={row} side={then} /> : ABSENT}</td>
                <td className="right">
                  <Change row={row} now={now} then={then} />
                </td>
              </tr>
            ))}
            {(now.weight_bytes !== null || then?.weight_bytes) && (
              <tr>
                <td>Weights on a node</td>
                <td className="right">{bytes(now.weight_bytes)}</td>
                <td className="right">{bytes(then?.weight_bytes)}</td>
                <td className="right">
                  {now.weight_bytes && then?.weight_bytes ? changeText(now.weight_bytes, then.weight_bytes) : ""}
                </td>
              </tr>
            )}
          </tbody>
        </table>
      </ScrollX>
      <div className="inset">
        <ul className={classes.notes}>
          {!changed && <li>No knob differs from what is in force: both sides are the same. Move one.</li>}
          {(then?.notes ?? []).map((note) => (
            <li key={note}>{note}</li>
          ))}
          <li>
            Ranges: step times are taken to be off by {percent(answer.error_ratio)} either way
            {answer.residual_windows >= 8
              ? `; latencies also by what the model was off by in ${plural(answer.residual_windows, "window")} (10 % to 90 %).`
              : "; too few calm windows yet to tell what the model was off by."}
          </li>
        </ul>
      </div>
    </Panel>
  );
}

function Figure({ row, side }: { row: Row; side: Outlook }) {
  const estimate = row.of(side);
  if (!estimate) return <span className="muted">not measured</span>;
  const over = row.limit !== undefined && estimate.value > row.limit;
  return (
    <>
      <span className={classes.figure} data-over={over || undefined}>
        {row.format(estimate.value)}
        {over && <span className="visually-hidden"> (over the objective)</span>}
      </span>
      <span className={classes.range}>{rangeText(estimate, row.format)}</span>
    </>
  );
}

function Change({ row, now, then }: { row: Row; now: Outlook; then: Outlook | null }) {
  const before = row.of(now);
  const after = then && row.of(then);
  if (!before || !after) return null;
  const text = changeText(before.value, after.value);
  const less = after.value < before.value;
  const judged = text === "±0 %" || !row.better ? null : less === (row.better === "less");
  return (
    <span className={judged === null ? undefined : judged ? classes.better : classes.worse}>
      {text}
      {judged !== null && <span className="visually-hidden">{judged ? " (better)" : " (worse)"}</span>}
    </span>
  );
}
