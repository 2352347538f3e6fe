import { Tooltip } from "@mantine/core";
import { Link } from "react-router";
import { clock } from "../../lib/format";
import type { Mark } from "./chart";
import classes from "./TimeChart.module.css";
import type { Placed } from "./usePlot";

/** Flags on the upper edge of a chart where something was decided or rolled out; real links, so the keyboard reaches them. */
export function Marks({ marks, placed }: { marks: Mark[]; placed: Placed[] }) {
  const byId = new Map(marks.map((mark) => [mark.id, mark]));
  return (
    <div className={classes.marks}>
      {placed.map(({ id, left }) => {
        const mark = byId.get(id);
        if (!mark) return null;
        return (
          <Tooltip key={id} w={300} label={<MarkNote mark={mark} />}>
            <Link
              to={mark.to}
              className={classes.mark}
              data-tone={mark.tone}
              style={{ left }}
              aria-label={`${mark.label} at ${clock(mark.at * 1000)}: ${mark.detail}`}
            >
              <span />
            </Link>
          </Tooltip>
        );
      })}
    </div>
  );
}

function MarkNote({ mark }: { mark: Mark }) {
  return (
    <>
      <strong>
        {mark.label} · {clock(mark.at * 1000)}
      </strong>
      <br />
      {mark.detail}
    </>
  );
}
