import { ActionIcon, Tooltip } from "@mantine/core";
import { type ReactNode, useRef, useState } from "react";
import "uplot/dist/uPlot.min.css";
import { ChartIcon, TableIcon } from "../icons";
import { Panel } from "../Panel";
import { ChartTable } from "./ChartTable";
import type { ChartModel } from "./chart";
import { placeText, summary } from "./chart";
import { Hovered, Legend } from "./Legend";
import { Marks } from "./Marks";
import classes from "./TimeChart.module.css";
import { usePlot } from "./usePlot";

interface TimeChartProps {
  title: string;
  model: ChartModel;
  height?: number;
  /** Charts with the same key share their cursor. */
  sync?: string;
  aside?: ReactNode;
  empty?: string;
}

/** A chart (over time, unless its model says otherwise) in a panel, with a legend, what the cursor points at, and the same figures as a table. */
export function TimeChart({ title, model, height = 190, sync, aside, empty }: TimeChartProps) {
  const [asTable, setAsTable] = useState(false);
  const hasData = model.lines.some((line) => line.values.some((value) => typeof value === "number"));
  const label = asTable ? `View ${title} as chart` : `View ${title} as table`;
  const toggle = (
    <Tooltip label={asTable ? "View as chart" : "View as table"}>
      <ActionIcon size="sm" aria-label={label} aria-pressed={asTable} onClick={() => setAsTable(!asTable)}>
        {asTable ? <ChartIcon size={15} /> : <TableIcon size={15} />}
      </ActionIcon>
    </Tooltip>
  );
  return (
    <Panel
      flush
      title={title}
      aside={
        <>
          {aside}
          {!asTable && <Legend model={model} />}
          {toggle}
        </>
      }
    >
      {asTable ? (
        <ChartTable title={title} model={model} />
      ) : hasData ? (
        <Plot title={title} model={model} height={height} sync={sync} />
      ) : (
        <div className={classes.empty} style={{ height }}>
          {empty ?? "Nothing measured in this span yet."}
        </div>
      )}
    </Panel>
  );
}

function Plot({
  title,
  model,
  height,
  sync,
}: {
  title: string;
  model: ChartModel;
  height: number;
  sync: string | undefined;
}) {
  const host = useRef<HTMLDivElement>(null);
  const { hover, placed } = usePlot(host, model, height, sync);
  return (
    <div className={classes.frame}>
      <div ref={host} role="img" aria-label={summary(title, model)} style={{ height }} />
      <Marks marks={model.marks ?? []} placed={placed} where={(at) => placeText(model, at)} />
      {hover && <Hovered model={model} hover={hover} />}
    </div>
  );
}
