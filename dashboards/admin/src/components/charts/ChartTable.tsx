import { clock } from "../../lib/format";
import type { ChartModel } from "./chart";
import classes from "./TimeChart.module.css";

/** The chart's figures, newest first. */
export function ChartTable({ title, model }: { title: string; model: ChartModel }) {
  const rows = model.x
    .map((at, index) => ({ at, values: model.lines.map((line) => line.values[index]) }))
    .filter((row) => row.values.some((value) => typeof value === "number"))
    .reverse();
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: a scrolling region must be reachable by keyboard to be scrolled
    <section className={classes.tableFrame} tabIndex={0} aria-label={`${title}, as a table`}>
      <table className="data-table">
        <caption className="visually-hidden">{title}</caption>
        <thead>
          <tr>
            <th scope="col">Time</th>
            {model.lines.map((line) => (
              <th key={line.label} scope="col" className="right">
                {line.label}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr key={row.at}>
              <td className="num">{clock(row.at * 1000)}</td>
              {row.values.map((value, index) => (
                <td key={model.lines[index]?.label} className="right">
                  {model.format(value)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}
