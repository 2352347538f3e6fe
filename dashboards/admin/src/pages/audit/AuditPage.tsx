import { Button, NativeSelect, TextInput } from "@mantine/core";
import { Fragment, useState } from "react";
import { Link, useSearchParams } from "react-router";
import { type AuditEntry, type AuditFilter, exportAddress, useAudit } from "../../api/audit";
import { usePools } from "../../api/queries";
import { PageHeader } from "../../components/PageHeader";
import { Panel } from "../../components/Panel";
import { poolName } from "../../components/RoleFields";
import { ScrollX } from "../../components/ScrollX";
import { Empty, Failed, Loading } from "../../components/States";
import { Tag } from "../../components/Tag";
import { severityLook } from "../../components/tones";
import { When } from "../../components/When";
import { moment } from "../../lib/format";
import classes from "./Audit.module.css";
import { ChainPanel } from "./ChainPanel";

const NAMES = ["text", "actor", "kind", "severity", "pool_id", "since"] as const;
const SEVERITIES = ["info", "warning", "error"] as const;

/** Everything that was done or happened, by whom, searchable; and the proof that nobody has rewritten it. */
export function AuditPage() {
  const [search, setSearch] = useSearchParams();
  const filter = filterOf(search);
  const audit = useAudit(filter);
  const entries = audit.data?.pages.flatMap((page) => page.items) ?? [];
  const set = (name: (typeof NAMES)[number], value: string) =>
    setSearch(
      (before) => {
        const next = new URLSearchParams(before);
        if (value) next.set(name, value);
        else next.delete(name);
        return next;
      },
      { replace: true },
    );
  return (
    <>
      <PageHeader
        title="Audit log"
        note="Every change by a person, the controller, a worker or a node. Entries are chained by hashes and never rewritten."
        actions={(["csv", "jsonl"] as const).map((format) => (
          <Button key={format} variant="default" component="a" href={exportAddress(filter, format)} download>
            {format === "csv" ? "CSV" : "JSON lines"}
          </Button>
        ))}
      />
      <div className="stack">
        <ChainPanel />
        <Panel title="Entries" flush>
          <Filters filter={filter} set={set} />
          {audit.isPending && <Loading height={420} />}
          {audit.isError && entries.length === 0 && <Failed error={audit.error} retry={() => void audit.refetch()} />}
          {audit.isSuccess && entries.length === 0 && (
            <div className="inset">
              <Empty title="No entry is like this">Widen the search, or clear a field.</Empty>
            </div>
          )}
          {entries.length > 0 && <Entries entries={entries} />}
        </Panel>
        {audit.hasNextPage && (
          <div>
            <Button variant="default" loading={audit.isFetchingNextPage} onClick={() => void audit.fetchNextPage()}>
              Show older
            </Button>
          </div>
        )}
      </div>
    </>
  );
}

function filterOf(search: URLSearchParams): AuditFilter {
  const said = (name: (typeof NAMES)[number]) => search.get(name) ?? "";
  return {
    text: said("text"),
    actor: said("actor"),
    kind: said("kind"),
    severity: SEVERITIES.find((one) => one === said("severity")) ?? "",
    pool_id: said("pool_id"),
    since: said("since"),
  };
}

interface FiltersProps {
  filter: AuditFilter;
  set: (name: (typeof NAMES)[number], value: string) => void;
}

function Filters({ filter, set }: FiltersProps) {
  const pools = usePools();
  return (
    <search className={classes.filters}>
      <Typed label="Words" value={filter.text} onSay={(value) => set("text", value)} />
      <Typed label="Who" value={filter.actor} onSay={(value) => set("actor", value)} />
      <Typed label="Kind, or access.*" value={filter.kind} onSay={(value) => set("kind", value)} />
      <NativeSelect
        size="xs"
        label="Severity"
        value={filter.severity}
        data={[{ value: "", label: "Any" }, ...SEVERITIES]}
        onChange={(event) => set("severity", event.currentTarget.value)}
      />
      <NativeSelect
        size="xs"
        label="Pool"
        value={filter.pool_id}
        data={[
          { value: "", label: "Any" },
          ...(pools.data?.items ?? []).map((pool) => ({ value: pool.id, label: pool.name })),
        ]}
        onChange={(event) => set("pool_id", event.currentTarget.value)}
      />
      <NativeSelect
        size="xs"
        label="Time"
        value=""
        data={[
          { value: "", label: filter.since ? `since ${moment(filter.since)}` : "Any" },
          { value: "1", label: "Last hour" },
          { value: "24", label: "Last 24 hours" },
          { value: "168", label: "Last week" },
          ...(filter.since ? [{ value: "any", label: "Any" }] : []),
        ]}
        onChange={(event) => set("since", sinceOf(event.currentTarget.value))}
      />
    </search>
  );
}

function sinceOf(hours: string): string {
  return Number(hours) > 0 ? new Date(Date.now() - Number(hours) * 3_600_000).toISOString() : "";
}

/** Asks when the field is left or Enter is pressed, not at each letter. */
function Typed({ label, value, onSay }: { label: string; value: string; onSay: (value: string) => void }) {
  return (
    <TextInput
      key={value}
      size="xs"
      label={label}
      defaultValue={value}
      maxLength={128}
      onBlur={(event) => event.currentTarget.value !== value && onSay(event.currentTarget.value.trim())}
      onKeyDown={(event) => event.key === "Enter" && onSay(event.currentTarget.value.trim())}
    />
  );
}

function Entries({ entries }: { entries: AuditEntry[] }) {
  const [open, setOpen] = useState<number | null>(null);
  const pools = usePools();
  return (
    <ScrollX label="Entries">
      <table className="data-table">
        <thead>
          <tr>
            <th scope="col" className="right">
              Place
            </th>
            <th scope="col">When</th>
            <th scope="col">Who</th>
            <th scope="col">What</th>
            <th scope="col">Pool</th>
            <th scope="col" className="act">
              <span className="visually-hidden">Details</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {entries.map((entry) => (
            <Fragment key={entry.id}>
              <tr>
                <td className="right muted">{entry.position}</td>
                <td className="nowrap">
                  <When at={entry.at} />
                </td>
                <td className={classes.who}>{entry.actor}</td>
                <td className={classes.what}>
                  {entry.severity !== "info" && <Tag look={severityLook(entry.severity)} quiet />} {entry.message}
                  <span className={classes.kind}>{entry.kind}</span>
                </td>
                <td className="nowrap">{entry.pool_id ? poolName(pools.data?.items ?? [], entry.pool_id) : "–"}</td>
                <td className="act">
                  <Button
                    size="compact-xs"
                    variant="default"
                    aria-expanded={open === entry.id}
                    aria-label={`Details of entry ${entry.position}`}
                    onClick={() => setOpen(open === entry.id ? null : entry.id)}
                  >
                    {open === entry.id ? "Less" : "More"}
                  </Button>
                </td>
              </tr>
              {open === entry.id && (
                <tr>
                  <td colSpan={6}>
                    <Detail entry={entry} />
                  </td>
                </tr>
              )}
            </Fragment>
          ))}
        </tbody>
      </table>
    </ScrollX>
  );
}

function Detail({ entry }: { entry: AuditEntry }) {
  const places = [
    entry.rollout_id && { to: `/rollouts/${entry.rollout_id}`, label: "Rollout" },
    entry.decision_id && { to: `/decisions/${entry.decision_id}`, label: "Decision" },
    entry.node_id && { to: `/nodes/${entry.node_id}`, label: "Node" },
  ].filter((place) => place !== null && place !== "");
  return (
    <div className={classes.detail}>
      <p className="small muted">
        {moment(entry.at)} · hash <span className="mono">{entry.hash}</span>
      </p>
      {places.length > 0 && (
        <p className="row">
          {places.map((place) => (
            <Link key={place.to} to={place.to}>
              {place.label}
            </Link>
          ))}
        </p>
      )}
      <pre className={classes.data}>{JSON.stringify(entry.data, null, 2)}</pre>
    </div>
  );
}
