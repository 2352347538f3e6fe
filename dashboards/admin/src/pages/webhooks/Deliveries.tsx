import { Button } from "@mantine/core";
import { Fragment, useState } from "react";
import { type Delivery, useDeliveries, useDelivery, useRedeliver, type Webhook } from "../../api/webhooks";
import { useMayOperateEverywhere } from "../../app/useRole";
import { CheckIcon, ClockIcon, WarnIcon } from "../../components/icons";
import { ScrollX } from "../../components/ScrollX";
import { Answer, Empty, Failed, Loading } from "../../components/States";
import { Tag } from "../../components/Tag";
import type { Look } from "../../components/tones";
import { When } from "../../components/When";
import { plural } from "../../lib/format";
import classes from "./Webhooks.module.css";

const LOOKS: Record<string, Look> = {
  delivered: { tone: "ok", icon: CheckIcon, text: "Delivered" },
  waiting: { tone: "warn", icon: ClockIcon, text: "Waiting" },
  failed: { tone: "bad", icon: WarnIcon, text: "Failed" },
};

/** What was sent, what came back, and sending it again. */
export function Deliveries({ webhook }: { webhook: Webhook }) {
  const deliveries = useDeliveries(webhook.id);
  const [open, setOpen] = useState<string | null>(null);
  const rows = deliveries.data?.pages.flatMap((page) => page.items) ?? [];
  if (deliveries.isPending) return <Loading height={120} />;
  if (deliveries.isError && rows.length === 0) return <Failed error={deliveries.error} />;
  if (rows.length === 0)
    return (
      <div className="inset">
        <Empty title="Nothing was owed yet">An event that it asks for makes the first; Test makes one now.</Empty>
      </div>
    );
  return (
    <>
      <ScrollX label={`Deliveries of ${webhook.name}`}>
        <table className="data-table">
          <thead>
            <tr>
              <th scope="col">State</th>
              <th scope="col">What</th>
              <th scope="col">Made</th>
              <th scope="col">Tries</th>
              <th scope="col">Answer</th>
              <th scope="col" className="act">
                <span className="visually-hidden">What can be done</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {rows.map((delivery) => (
              <Fragment key={delivery.id}>
                <Row
                  delivery={delivery}
                  open={open === delivery.id}
                  onOpen={() => setOpen(open === delivery.id ? null : delivery.id)}
                />
                {open === delivery.id && (
                  <tr>
                    <td colSpan={6}>
                      <Attempts id={delivery.id} />
                    </td>
                  </tr>
                )}
              </Fragment>
            ))}
          </tbody>
        </table>
      </ScrollX>
      {deliveries.hasNextPage && (
        <div className="inset">
          <Button
            size="compact-sm"
            variant="default"
            loading={deliveries.isFetchingNextPage}
            onClick={() => void deliveries.fetchNextPage()}
          >
            Show older
          </Button>
        </div>
      )}
    </>
  );
}

function Row({ delivery, open, onOpen }: { delivery: Delivery; open: boolean; onOpen: () => void }) {
  const again = useRedeliver();
  const may = useMayOperateEverywhere();
  return (
    <tr>
      <td>
        <Tag look={LOOKS[delivery.state] ?? { tone: "idle", icon: ClockIcon, text: delivery.state }} quiet />
      </td>
      <td className="mono nowrap">
        {delivery.kind}
        {delivery.num_events > 1 && ` and ${plural(delivery.num_events - 1, "more event")}`}
      </td>
      <td className="nowrap">
        <When at={delivery.created_at} />
      </td>
      <td className="num nowrap">
        {delivery.attempts}
        {delivery.next_at && delivery.state === "waiting" && (
          <span className="muted">
            {" "}
            · next at <When at={delivery.next_at} exact />
          </span>
        )}
      </td>
      <td className={classes.answer}>{again.error?.message ?? delivery.last_error ?? delivery.last_status ?? "–"}</td>
      <td className="act">
        <Button size="compact-xs" variant="default" aria-expanded={open} onClick={onOpen}>
          {open ? "Less" : "Tries"}
        </Button>{" "}
        <Button
          size="compact-xs"
          variant="default"
          disabled={!may}
          loading={again.isPending}
          onClick={() => again.mutate(delivery.id)}
        >
          {delivery.state === "waiting" ? "Send now" : "Send again"}
        </Button>
      </td>
    </tr>
  );
}

function Attempts({ id }: { id: string }) {
  const delivery = useDelivery(id);
  return (
    <Answer query={delivery} height={80}>
      {(found) =>
        found.attempts_made.length === 0 ? (
          <p className="muted">It was not tried yet.</p>
        ) : (
          <ol className={classes.attempts}>
            {found.attempts_made.map((attempt) => (
              <li key={attempt.number}>
                <p>
                  <strong>{attempt.status ?? "No answer"}</strong>{" "}
                  <span className="muted">
                    <When at={attempt.at} />, after {attempt.duration_ms} ms
                  </span>{" "}
                  {attempt.error}
                </p>
                <details>
                  <summary>Request and answer</summary>
                  <pre className={classes.body}>
                    {headersText(attempt.request_headers)}
                    {"\n\n"}
                    {attempt.request_body}
                  </pre>
                  <pre className={classes.body}>
                    {headersText(attempt.response_headers)}
                    {"\n\n"}
                    {attempt.response_body}
                  </pre>
                </details>
              </li>
            ))}
          </ol>
        )
      }
    </Answer>
  );
}

function headersText(headers: Record<string, unknown>): string {
  return Object.entries(headers)
    .map(([name, value]) => `${name}: ${String(value)}`)
    .join("\n");
}
