import type { ReactNode } from "react";
import { useTitle } from "../../app/useTitle";
import { Logo } from "../../components/Logo";
import classes from "./Entry.module.css";

interface EntryFrameProps {
  /** Absent while nothing is known yet. */
  title?: string;
  note?: ReactNode;
  /** Below the card: what one may wonder about. */
  foot?: ReactNode;
  children: ReactNode;
}

/** The page of whoever is not in yet: one card, and why it asks what it asks. */
export function EntryFrame({ title, note, foot, children }: EntryFrameProps) {
  useTitle(title ?? "Opening");
  return (
    <main className={classes.page}>
      <div className={classes.column}>
        <div className={classes.brand}>
          <Logo size={28} />
          <span>Trimtab</span>
        </div>
        <section className={classes.card} aria-label={title ?? "Opening"}>
          {title && (
            <div>
              <h1 className={classes.title}>{title}</h1>
              {note && <div className={classes.note}>{note}</div>}
            </div>
          )}
          {children}
        </section>
        {foot && <div className={classes.foot}>{foot}</div>}
      </div>
    </main>
  );
}
