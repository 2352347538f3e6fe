// Which lines make up each chart of the product.
import type { Decision, Forecast, Observation, Rollout } from "../../api/types";
import { number, perSecond, seconds } from "../../lib/format";
import { type Columns, columnsOf, type Fact, fan, last, merge, toSeconds, type Value } from "../../lib/series";
import { changesText } from "../../lib/settings";
import { hasEnded, outcomeLook, phaseLook } from "../tones";
import type { ChartModel, Format, Ink, Line, Mark, Threshold } from "./chart";

interface Extras {
  forecast?: Forecast | undefined;
  /** The forecast is not of this very series (a pool's, over one of its nodes): it does not begin at the last value. */
  apart?: boolean;
  threshold?: Threshold | undefined;
  marks?: Mark[];
  span?: { from: number; to: number } | undefined;
}

type Drawn = [Fact, string, Ink, { filled?: boolean; dashed?: boolean }?];

function build(
  observations: Observation[],
  drawn: Drawn[],
  forecastOf: Fact | null,
  format: Format,
  extras: Extras,
): ChartModel {
  const measured = columnsOf(
    observations,
    drawn.map(([fact]) => fact),
  );
  const ahead = forecastOf ? fanAfter(measured, drawn, forecastOf, extras) : null;
  const { x, y } = ahead ? merge([measured, ahead]) : measured;
  const lines: Line[] = drawn.map(([, label, ink, look], index) => ({ label, ink, values: y[index] ?? [], ...look }));
  if (ahead) lines.push(...fanLines(y.slice(drawn.length), extras.apart ? "Pool's forecast" : "Forecast"));
  return {
    x,
    lines,
    format,
    bands: ahead ? [{ upper: drawn.length + 2, lower: drawn.length, ink: "forecast" }] : [],
    threshold: extras.threshold,
    marks: extras.marks ?? [],
    span: extras.span,
  };
}

function fanAfter(measured: Columns, drawn: Drawn[], fact: Fact, { forecast, apart }: Extras): Columns | null {
  if (!forecast || forecast.points.length === 0) return null;
  if (apart) return fan(forecast);
  const column = drawn.findIndex(([name]) => name === fact);
  return fan(forecast, last(measured, Math.max(0, column)));
}

function fanLines(y: Value[][], label = "Forecast"): Line[] {
  return [
    { label: `${label} 10 %`, ink: "forecast", values: y[0] ?? [], edge: true },
    { label, ink: "forecast", values: y[1] ?? [], dashed: true },
    { label: `${label} 90 %`, ink: "forecast", values: y[2] ?? [], edge: true },
  ];
}

/** A forecast of the past drawn whole over the measurements, the later ones too. */
export function overlay(model: ChartModel, forecast: Forecast | undefined): ChartModel {
  if (!forecast) return model;
  const { x, y } = merge([{ x: model.x, y: model.lines.map((line) => line.values) }, fan(forecast)]);
  const count = model.lines.length;
  return {
    ...model,
    x,
    lines: [...model.lines.map((line, index) => ({ ...line, values: y[index] ?? [] })), ...fanLines(y.slice(count))],
    bands: [{ upper: count + 2, lower: count, ink: "forecast" }],
  };
}

export const loadChart = (observations: Observation[], extras: Extras): ChartModel =>
  build(observations, [["offered_rps", "Offered", "series-1", { filled: true }]], "offered_rps", perSecond, extras);

export const ttftChart = (observations: Observation[], extras: Extras): ChartModel =>
  build(
    observations,
    [
      ["ttft_p95_s", "p95", "series-1"],
      ["ttft_p50_s", "p50", "series-3"],
    ],
    "ttft_p95_s",
    seconds,
    extras,
  );

export const itlChart = (observations: Observation[], extras: Extras): ChartModel =>
  build(
    observations,
    [
      ["itl_p95_s", "p95", "series-1"],
      ["itl_p50_s", "p50", "series-3"],
    ],
    "itl_p95_s",
    seconds,
    extras,
  );

export const queueChart = (observations: Observation[], extras: Extras): ChartModel =>
  build(
    observations,
    [
      ["running", "Running", "series-1", { filled: true }],
      ["waiting", "Waiting", "series-2"],
    ],
    null,
    number,
    extras,
  );

export const tokensChart = (observations: Observation[], extras: Extras): ChartModel =>
  build(
    observations,
    [
      ["generation_tokens_per_s", "Generated", "series-1", { filled: true }],
      ["prompt_tokens_per_s", "Prompt", "series-3"],
    ],
    null,
    perSecond,
    extras,
  );

export const stepChart = (observations: Observation[], extras: Extras): ChartModel =>
  build(observations, [["step_mean_s", "Mean step", "series-1"]], null, seconds, extras);

/** Decisions that did something, as flags; holds are the normal state and would cover the chart. */
export function decisionMarks(decisions: Decision[]): Mark[] {
  return decisions
    .filter((decision) => decision.outcome !== "HOLD")
    .map((decision) => {
      const look = outcomeLook(decision.outcome);
      return {
        id: `d-${decision.id}`,
        at: toSeconds(decision.at),
        tone: look.tone,
        label: `${look.text} decided`,
        detail: decision.explanation,
        to: `/decisions/${decision.id}`,
      };
    });
}

/** Ends of rollouts, as flags; their beginnings are decisions. */
export function rolloutMarks(rollouts: Rollout[]): Mark[] {
  return rollouts
    .filter((rollout) => rollout.ended_at !== null && hasEnded(rollout.phase))
    .map((rollout) => {
      const look = phaseLook(rollout.phase);
      return {
        id: `r-${rollout.id}`,
        at: toSeconds(rollout.ended_at ?? rollout.created_at),
        tone: look.tone,
        label: `Rollout ${look.text.toLowerCase()}`,
        detail: rollout.outcome ?? changesText(rollout.changes),
        to: `/rollouts/${rollout.id}`,
      };
    });
}
