import { Link } from "react-router";
import { type EventFilter, useEvents } from "../api/queries";
import type { TimelineEvent } from "../api/types";
import classes from "./EventFeed.module.css";
import { Answer, Empty } from "./States";
import { severityLook } from "./tones";
import { When } from "./When";

function target(event: TimelineEvent): string | null {
  if (event.rollout_id) return `/rollouts/${event.rollout_id}`;
  if (event.decision_id) return `/decisions/${event.decision_id}`;
  if (event.node_id) return `/nodes/${event.node_id}`;
  return event.pool_id ? `/pools/${event.pool_id}` : null;
}

/** Events in words, newest first. */
export function EventList({
  events,
  links = true,
  brief = false,
}: {
  events: TimelineEvent[];
  links?: boolean;
  brief?: boolean;
}) {
  if (events.length === 0) return <Empty title="Nothing has happened yet" />;
  return (
    <ol className={classes.feed}>
      {events.map((event) => {
        const look = severityLook(event.severity);
        const to = links ? target(event) : null;
        return (
          <li key={event.id} className={classes.event} data-tone={look.tone}>
            <span className={classes.dot} aria-hidden="true" />
            <p className={classes.message} data-brief={brief || undefined} title={brief ? event.message : undefined}>
              {event.severity !== "info" && <span className={classes.severity}>{look.text}: </span>}
              {to ? (
                <Link to={to} className={classes.link}>
                  {event.message}
                </Link>
              ) : (
                event.message
              )}
            </p>
            <p className={classes.meta}>
              <When at={event.at} /> · {event.kind}
              {event.actor !== "system" && ` · ${event.actor}`}
            </p>
          </li>
        );
      })}
    </ol>
  );
}

export function EventFeed({
  filter,
  limit = 20,
  brief = false,
}: {
  filter: EventFilter;
  limit?: number;
  brief?: boolean;
}) {
  const events = useEvents(filter, limit);
  return <Answer query={events}>{(page) => <EventList events={page.items} brief={brief} />}</Answer>;
}
