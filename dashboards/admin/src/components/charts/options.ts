import type uPlot from "uplot";
import { type ChartModel, ceiling, type Ink } from "./chart";

export type Palette = (name: string) => string;

export function palette(): Palette {
  const style = getComputedStyle(document.documentElement);
  return (name) => style.getPropertyValue(`--${name}`).trim();
}

function translucent(colour: string, share: number): string {
  return `color-mix(in srgb, ${colour} ${share * 100}%, transparent)`;
}

const FONT = "11px Geist, system-ui, sans-serif";

function axes(model: ChartModel, colour: Palette): uPlot.Axis[] {
  const common = {
    stroke: colour("muted"),
    font: FONT,
    grid: { stroke: colour("grid"), width: 1 },
    ticks: { show: false },
  };
  const { across } = model;
  return [
    {
      ...common,
      size: 26,
      space: 72,
      grid: { show: false },
      values: across
        ? (_, splits) => splits.map((value) => across.format(value))
        : [
            [3600, "{HH}:{mm}", null, null, null, null, null, null, 0],
            [60, "{HH}:{mm}", null, null, null, null, null, null, 0],
            [1, "{HH}:{mm}:{ss}", null, null, null, null, null, null, 0],
          ],
    },
    { ...common, size: 58, space: 34, gap: 6, values: (_, splits) => splits.map((value) => tick(value, model)) },
  ];
}

/** A value on the axis: without needless zeros, and without a unit at the origin. */
function tick(value: number, model: ChartModel): string {
  return value === 0 ? "0" : model.format(value).replace(/\.0+(?=\D|$)/, "");
}

function series(model: ChartModel, colour: Palette): uPlot.Series[] {
  return model.lines.map((line) => {
    const ink = colour(line.ink);
    if (line.edge) return { label: line.label, stroke: "transparent", width: 0, points: { show: false } };
    return {
      label: line.label,
      stroke: ink,
      width: 1.75,
      points: { show: false },
      ...(line.dashed ? { dash: [5, 4] } : {}),
      ...(line.filled ? { fill: translucent(ink, 0.13) } : {}),
    };
  });
}

/** Horizontal line of the objective with its name at the right end. */
function drawThreshold(u: uPlot, model: ChartModel, colour: Palette): void {
  if (!model.threshold) return;
  const y = u.valToPos(model.threshold.value, "y", true);
  const { left, top, width } = u.bbox;
  const above = y < top - 1;
  const context = u.ctx;
  context.save();
  context.strokeStyle = colour("bad");
  context.fillStyle = colour("bad");
  context.lineWidth = devicePixelRatio;
  context.setLineDash([6 * devicePixelRatio, 4 * devicePixelRatio]);
  if (!above) {
    context.beginPath();
    context.moveTo(left, y);
    context.lineTo(left + width, y);
    context.stroke();
  }
  context.font = `${11 * devicePixelRatio}px Geist, system-ui, sans-serif`;
  context.textAlign = "right";
  context.textBaseline = "alphabetic";
  const label = `${model.threshold.label} ${model.format(model.threshold.value)}`;
  const room = 14 * devicePixelRatio;
  const base = above ? top + room : y - top < room ? y + room : y - 4 * devicePixelRatio;
  // A rim in the colour of the ground keeps the words readable over lines.
  context.setLineDash([]);
  context.strokeStyle = colour("surface");
  context.lineWidth = 4 * devicePixelRatio;
  context.lineJoin = "round";
  context.strokeText(above ? `${label} ↑` : label, left + width - 4 * devicePixelRatio, base);
  context.fillText(above ? `${label} ↑` : label, left + width - 4 * devicePixelRatio, base);
  context.restore();
}

function drawMarks(u: uPlot, model: ChartModel, colour: Palette): void {
  const { left, top, width, height } = u.bbox;
  const context = u.ctx;
  context.save();
  context.lineWidth = devicePixelRatio;
  for (const mark of model.marks ?? []) {
    const x = Math.round(u.valToPos(mark.at, "x", true));
    if (x < left || x > left + width) continue;
    context.strokeStyle = translucent(colour(mark.tone), 0.6);
    context.beginPath();
    context.moveTo(x, top);
    context.lineTo(x, top + height);
    context.stroke();
  }
  context.restore();
}

/** The place that is looked at, as an upright line with its name. */
function drawHere(u: uPlot, model: ChartModel, colour: Palette): void {
  if (!model.here) return;
  const x = Math.round(u.valToPos(model.here.at, "x", true));
  const { left, top, width, height } = u.bbox;
  if (x < left || x > left + width) return;
  const context = u.ctx;
  context.save();
  context.strokeStyle = colour("text");
  context.fillStyle = colour("text");
  context.lineWidth = devicePixelRatio;
  context.setLineDash([2 * devicePixelRatio, 3 * devicePixelRatio]);
  context.beginPath();
  context.moveTo(x, top);
  context.lineTo(x, top + height);
  context.stroke();
  context.font = `${11 * devicePixelRatio}px Geist, system-ui, sans-serif`;
  const flip = x > left + width * 0.75;
  context.textAlign = flip ? "right" : "left";
  context.fillText(model.here.label, x + (flip ? -5 : 5) * devicePixelRatio, top + height - 5 * devicePixelRatio);
  context.restore();
}

/** Where the measurements end and the forecast begins. */
function drawNow(u: uPlot, model: ChartModel, colour: Palette): void {
  if (!model.span || model.across) return;
  const now = Date.now() / 1000;
  if (now >= model.span.to - 1 || now <= model.span.from) return;
  const x = Math.round(u.valToPos(now, "x", true));
  const { left, top, width, height } = u.bbox;
  if (x < left || x > left + width) return;
  const context = u.ctx;
  context.save();
  context.fillStyle = translucent(colour("forecast"), 0.05);
  context.fillRect(x, top, left + width - x, height);
  context.restore();
}

export interface Handlers {
  model: () => ChartModel;
  moved: (u: uPlot) => void;
  laidOut: (u: uPlot) => void;
}

/** uPlot's options for a chart; what changes with each refresh is read through `handlers.model`. */
export function options(
  size: { width: number; height: number },
  sync: string | undefined,
  handlers: Handlers,
): uPlot.Options {
  const colour = palette();
  const model = handlers.model();
  return {
    ...size,
    padding: [8, 24, 0, 0],
    legend: { show: false },
    cursor: {
      y: false,
      drag: { x: false, y: false },
      points: { size: 7, width: 2, fill: colour("surface") },
      ...(sync ? { sync: { key: sync, setSeries: false } } : {}),
    },
    scales: {
      x: { time: model.across === undefined, range: (_u, min, max) => spanOf(handlers.model(), min, max) },
      y: { range: () => [0, ceiling(handlers.model())] },
    },
    axes: axes(model, colour),
    series: [{}, ...series(model, colour)],
    bands: (model.bands ?? []).map((band) => ({
      series: [band.upper + 1, band.lower + 1],
      fill: translucent(colour(band.ink satisfies Ink), 0.18),
    })),
    hooks: {
      drawClear: [(u) => drawNow(u, handlers.model(), colour)],
      draw: [
        (u) => {
          drawThreshold(u, handlers.model(), colour);
          drawMarks(u, handlers.model(), colour);
          drawHere(u, handlers.model(), colour);
          handlers.laidOut(u);
        },
      ],
      setCursor: [handlers.moved],
    },
  };
}

function spanOf(model: ChartModel, min: number | null, max: number | null): [number, number] {
  if (model.span) return [model.span.from, model.span.to];
  const from = min ?? Date.now() / 1000 - 60;
  const to = max ?? from + 60;
  return to > from ? [from, to] : [from - 30, from + 30];
}
