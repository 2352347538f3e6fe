import type { ReactNode } from "react";
import { Link } from "react-router";
import { useTitle } from "../app/useTitle";
import classes from "./PageHeader.module.css";

interface PageHeaderProps {
  title: string;
  trail?: { label: string; to: string }[];
  tags?: ReactNode;
  note?: ReactNode;
  actions?: ReactNode;
}

/** The page's name (also the window's title), where it hangs, and what can be done with the whole of it. */
export function PageHeader({ title, trail = [], tags, note, actions }: PageHeaderProps) {
  useTitle(title);
  return (
    <header className={classes.header}>
      <div className={classes.words}>
        {trail.length > 0 && (
          <nav aria-label="Breadcrumb" className={classes.trail}>
            <ol>
              {trail.map((part) => (
                <li key={part.to}>
                  <Link to={part.to}>{part.label}</Link>
                </li>
              ))}
            </ol>
          </nav>
        )}
        <div className={classes.line}>
          <h1 className={classes.title}>{title}</h1>
          {tags}
        </div>
        {note && <p className={classes.note}>{note}</p>}
      </div>
      {actions && <div className={classes.actions}>{actions}</div>}
    </header>
  );
}
