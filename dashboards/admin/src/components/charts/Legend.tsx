import { type ChartModel, placeText } from "./chart";
import classes from "./TimeChart.module.css";
import type { Hover } from "./usePlot";

export function Legend({ model }: { model: ChartModel }) {
  const lines = model.lines.filter((line) => !line.edge);
  return (
    <ul className={classes.legend} aria-label="Legend">
      {lines.map((line) => (
        <li key={line.label}>
          <span
            className={classes.swatch}
            style={{ color: `var(--${line.ink})` }}
            data-dashed={line.dashed || undefined}
          />
          {line.label}
        </li>
      ))}
      {(model.bands ?? [])
        .filter(({ label }) => label !== "")
        .map((band) => (
          <li key={`band-${band.upper}`}>
            <span className={classes.swatch} style={{ color: `var(--${band.ink})` }} data-band />
            {band.label ?? "10–90 %"}
          </li>
        ))}
    </ul>
  );
}

/** Beside the cursor: the values at that moment. It follows a pointer, so it is no news for a reader. */
export function Hovered({ model, hover }: { model: ChartModel; hover: Hover }) {
  const at = model.x[hover.index];
  if (at === undefined) return null;
  const rows = model.lines
    .map((line) => ({ line, value: line.values[hover.index] }))
    .filter(({ value }) => typeof value === "number");
  if (rows.length === 0) return null;
  const flip = hover.left > hover.width / 2;
  const style = flip ? { right: hover.width - hover.left + 24 } : { left: hover.left + 58 + 14 };
  return (
    <div className={classes.hovered} style={style} aria-hidden="true">
      <p className={classes.moment}>{placeText(model, at)}</p>
      <dl>
        {rows.map(({ line, value }) => (
          <div key={line.label} style={{ display: "contents" }}>
            <dt>
              <span
                className={classes.swatch}
                style={{ color: `var(--${line.ink})` }}
                data-dashed={line.dashed || undefined}
              />
              {line.label}
            </dt>
            <dd>{model.format(value)}</dd>
          </div>
        ))}
      </dl>
    </div>
  );
}
