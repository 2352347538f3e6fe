import type { ReactNode } from "react";
import { percent } from "../lib/format";
import classes from "./Metric.module.css";
import type { Tone } from "./tones";

/** One number with its name. */
export function Metric({
  label,
  value,
  note,
  tone,
}: {
  label: string;
  value: ReactNode;
  note?: ReactNode;
  tone?: Tone;
}) {
  return (
    <div className={classes.metric}>
      <dt className={classes.label}>{label}</dt>
      <dd className={classes.value} data-tone={tone}>
        {value}
      </dd>
      {note && <dd className={classes.note}>{note}</dd>}
    </div>
  );
}

export function Metrics({ children }: { children: ReactNode }) {
  return <dl className={classes.metrics}>{children}</dl>;
}

interface TargetProps {
  label: string;
  value: number | null | undefined;
  target: number;
  format: (value: number | null | undefined) => string;
}

function judge(share: number | null): { tone: Tone; word: string } {
  if (share === null) return { tone: "idle", word: "aim" };
  if (share > 1) return { tone: "bad", word: "over" };
  return share > 0.85 ? { tone: "warn", word: "close to" } : { tone: "ok", word: "within" };
}

/** A measured value against its objective: number, bar, and the verdict in words. */
export function Target({ label, value, target, format }: TargetProps) {
  const share = value === null || value === undefined ? null : target > 0 ? value / target : value > 0 ? 2 : 0;
  const { tone, word } = judge(share);
  return (
    <div className={classes.metric}>
      <dt className={classes.label}>{label}</dt>
      <dd className={classes.value} data-tone={tone === "bad" ? "bad" : undefined}>
        {format(value)}
      </dd>
      <dd className={classes.note}>
        <span className={classes.track} aria-hidden="true">
          <span
            className={classes.fill}
            data-tone={tone}
            style={{ width: percent(Math.min(1, share ?? 0)).replaceAll(" ", "") }}
          />
        </span>
        <span className={classes.word} data-tone={tone}>
          {word} {format(target)}
        </span>
      </dd>
    </div>
  );
}
