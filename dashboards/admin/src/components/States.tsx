import { Button, Skeleton } from "@mantine/core";
import type { UseQueryResult } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { Problem, wayOut } from "../api/problem";
import { WarnIcon } from "./icons";
import classes from "./States.module.css";

/** Nothing to show yet, why, and what will fill it. */
export function Empty({ title, children }: { title: string; children?: ReactNode }) {
  return (
    <div className={classes.state}>
      <p className={classes.title}>{title}</p>
      {children && <p className={classes.text}>{children}</p>}
    </div>
  );
}

/** What went wrong in the API's own words, and the way out. */
export function Failed({ error, retry }: { error: unknown; retry?: (() => void) | undefined }) {
  const problem = error instanceof Problem ? error : new Problem(-1, "This page could not be shown", String(error));
  return (
    <div className={classes.state} role="alert" data-tone="bad">
      <p className={classes.title}>
        <WarnIcon size={16} /> {problem.message}
      </p>
      {problem.detail && <p className={classes.text}>{problem.detail}</p>}
      {problem.fields.length > 0 && (
        <ul className={classes.fields}>
          {problem.fields.map((field) => (
            <li key={field.field}>
              <span className="mono">{field.field}</span>: {field.message}
            </li>
          ))}
        </ul>
      )}
      <p className={classes.text}>{wayOut(problem)}</p>
      {retry && (
        <Button variant="default" onClick={retry}>
          Try again
        </Button>
      )}
    </div>
  );
}

export function Loading({ height = 160 }: { height?: number }) {
  return (
    <div role="status">
      <span className="visually-hidden">Loading</span>
      <Skeleton height={height} radius={10} />
    </div>
  );
}

interface AnswerProps<T> {
  query: UseQueryResult<T>;
  height?: number;
  children: (data: T) => ReactNode;
}

/** A query's three faces. Data that is there stays on the page while a later request fails: the header says that it is old. */
export function Answer<T>({ query, height, children }: AnswerProps<T>) {
  if (query.data !== undefined) return <>{children(query.data)}</>;
  if (query.isError) return <Failed error={query.error} retry={() => void query.refetch()} />;
  return <Loading {...(height === undefined ? {} : { height })} />;
}
