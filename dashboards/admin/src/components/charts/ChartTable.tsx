import { type ChartModel, placeText } from "./chart";
import classes from "./TimeChart.module.css";

/** The chart's figures; over time the newest first. */
export function ChartTable({ title, model }: { title: string; model: ChartModel }) {
  const rows = model.x
    .map((at, index) => ({ at, values: model.lines.map((line) => line.values[index]) }))
    .filter((row) => row.values.some((value) => typeof value === "number"));
  if (!model.across) rows.reverse(); // the newest first
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: a scrolling region must be reachable by keyboard to be scrolled
    <section className={classes.tableFrame} tabIndex={0} aria-label={`${title}, as a table`}>
      <table className="data-table">
        <caption className="visually-hidden">{title}</caption>
        <thead>
          <tr>
            <th scope="col">{model.across?.label ?? "Time"}</th>
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
              <td className="num">{placeText(model, row.at)}</td>
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
