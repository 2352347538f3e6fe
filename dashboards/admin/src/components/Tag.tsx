import type { ReactNode } from "react";
import classes from "./Tag.module.css";
import type { Look, Tone } from "./tones";

/** A word with its colour and icon. */
export function Tag({ look, quiet = false }: { look: Look; quiet?: boolean }) {
  const Icon = look.icon;
  return (
    <span className={classes.tag} data-tone={look.tone} data-quiet={quiet || undefined}>
      <Icon size={13} strokeWidth={2.4} />
      {look.text}
    </span>
  );
}

/** A colour for words that need no icon, such as a count or a label. */
export function Chip({ tone = "idle", children, title }: { tone?: Tone; children: ReactNode; title?: string }) {
  return (
    <span className={classes.tag} data-tone={tone} title={title}>
      {children}
    </span>
  );
}
