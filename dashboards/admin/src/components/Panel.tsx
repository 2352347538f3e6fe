import { type ReactNode, useId } from "react";
import classes from "./Panel.module.css";

interface PanelProps {
  title?: ReactNode;
  aside?: ReactNode;
  flush?: boolean;
  level?: 2 | 3;
  children: ReactNode;
}

/** A titled part of a page. `flush` lets tables and charts reach the edge. */
export function Panel({ title, aside, flush = false, level = 2, children }: PanelProps) {
  const id = useId();
  const Heading = level === 2 ? "h2" : "h3";
  return (
    <section className={classes.panel} aria-labelledby={title ? id : undefined}>
      {title && (
        <header className={classes.head}>
          <Heading id={id} className={classes.title}>
            {title}
          </Heading>
          {aside && <div className={classes.aside}>{aside}</div>}
        </header>
      )}
      <div className={flush ? classes.flush : classes.body}>{children}</div>
    </section>
  );
}
