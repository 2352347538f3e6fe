import { Tooltip } from "@mantine/core";
import { Link } from "react-router";
import type { Mark } from "./chart";
import classes from "./TimeChart.module.css";
import type { Placed } from "./usePlot";

/** Flags on the upper edge of a chart where something was decided or rolled out; real links, so the keyboard reaches them. */
export function Marks({ marks, placed, where }: { marks: Mark[]; placed: Placed[]; where: (at: number) => string }) {
  const byId = new Map(marks.map((mark) => [mark.id, mark]));
  return (
    <div className={classes.marks}>
      {placed.map(({ id, left }) => {
        const mark = byId.get(id);
        if (!mark) return null;
        return (
          <Tooltip key={id} w={300} label={<MarkNote mark={mark} where={where(mark.at)} />}>
            <Link
              to={mark.to}
              className={classes.mark}
              data-tone={mark.tone}
              style={{ left }}
              aria-label={`${mark.label} at ${where(mark.at)}: ${mark.detail}`}
            >
              <span />
            </Link>
          </Tooltip>
        );
      })}
    </div>
  );
}

function MarkNote({ mark, where }: { mark: Mark; where: string }) {
  return (
    <>
      <strong>
        {mark.label} · {where}
      </strong>
      <br />
      {mark.detail}
    </>
  );
}
