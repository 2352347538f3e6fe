import { useComputedColorScheme } from "@mantine/core";
import { type RefObject, useEffect, useLayoutEffect, useRef, useState } from "react";
import uPlot from "uplot";
import type { ChartModel } from "./chart";
import { options } from "./options";

export interface Hover {
  index: number;
  left: number;
  width: number;
}

export interface Placed {
  id: string;
  left: number;
}

/** Keeps one uPlot in `host` in step with the model: new data is set, and a new shape, size or scheme makes it anew. */
export function usePlot(
  host: RefObject<HTMLDivElement | null>,
  model: ChartModel,
  height: number,
  sync: string | undefined,
) {
  const scheme = useComputedColorScheme("light");
  const [hover, setHover] = useState<Hover | null>(null);
  const [placed, setPlaced] = useState<Placed[]>([]);
  const latest = useRef(model);
  const plot = useRef<uPlot | null>(null);
  const shape = model.lines.map((line) => `${line.label}:${line.ink}:${line.edge ?? ""}`).join("|");

  useLayoutEffect(() => {
    latest.current = model;
  });

  // biome-ignore lint/correctness/useExhaustiveDependencies: colours are read from the page when the scheme changes, lines when the shape does
  useEffect(() => {
    const element = host.current;
    if (!element) return;
    const place = (u: uPlot) => {
      const marks = (latest.current.marks ?? []).map((mark) => ({ id: mark.id, left: u.valToPos(mark.at, "x") }));
      const inside = marks.filter((mark) => mark.left >= 0 && mark.left <= u.over.clientWidth);
      setPlaced((before) => (samePlaces(before, inside) ? before : inside));
    };
    const moved = (u: uPlot) => {
      const { idx, left } = u.cursor;
      setHover(
        idx === null || idx === undefined || left === undefined || left < 0
          ? null
          : { index: idx, left, width: u.over.clientWidth },
      );
    };
    const made = new uPlot(
      options({ width: element.clientWidth, height }, sync, { model: () => latest.current, moved, laidOut: place }),
      columns(latest.current),
      element,
    );
    plot.current = made;
    const observer = new ResizeObserver(() => {
      if (element.clientWidth > 0 && element.clientWidth !== made.width)
        made.setSize({ width: element.clientWidth, height });
    });
    observer.observe(element);
    return () => {
      observer.disconnect();
      made.destroy();
      plot.current = null;
      setHover(null);
    };
  }, [host, height, sync, scheme, shape]);

  useEffect(() => {
    plot.current?.setData(columns(model));
  }, [model]);

  return { hover, placed };
}

function columns(model: ChartModel): uPlot.AlignedData {
  return [model.x, ...model.lines.map((line) => line.values)];
}

function samePlaces(a: Placed[], b: Placed[]): boolean {
  return (
    a.length === b.length &&
    a.every((mark, index) => mark.id === b[index]?.id && Math.abs(mark.left - b[index].left) < 0.5)
  );
}
