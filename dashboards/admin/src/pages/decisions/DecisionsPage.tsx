import { Button, NativeSelect, SegmentedControl } from "@mantine/core";
import { Link, useSearchParams } from "react-router";
import { useDecisions, usePools } from "../../api/queries";
import type { Decision } from "../../api/types";
import { PageHeader } from "../../components/PageHeader";
import { Empty, Failed, Loading } from "../../components/States";
import { Tag } from "../../components/Tag";
import { outcomeLook } from "../../components/tones";
import { When } from "../../components/When";
import { duration, percent, words } from "../../lib/format";
import { changesText } from "../../lib/settings";
import classes from "./Decisions.module.css";

const OUTCOMES = [
  { value: "", label: "All" },
  { value: "APPLY", label: "Apply" },
  { value: "ADVISE", label: "Advise" },
  { value: "REJECT", label: "Reject" },
  { value: "HOLD", label: "Hold" },
];

function isOutcome(text: string): text is Decision["outcome"] {
  return OUTCOMES.some(({ value }) => value === text && value !== "");
}

/** Filters that stand in the URL. */
function useFilter() {
  const [search, setSearch] = useSearchParams();
  const set = (name: string, value: string) =>
    setSearch(
      (before) => {
        if (value) before.set(name, value);
        else before.delete(name);
        return before;
      },
      { replace: true },
    );
  return { outcome: search.get("outcome") ?? "", pool: search.get("pool") ?? "", set };
}

export function DecisionsPage() {
  const { outcome, pool, set } = useFilter();
  const pools = usePools();
  const decisions = useDecisions({
    ...(isOutcome(outcome) ? { outcome } : {}),
    ...(pool ? { pool_id: pool } : {}),
  });
  const items = decisions.data?.pages.flatMap((page) => page.items) ?? [];
  return (
    <>
      <PageHeader
        title="Decisions"
        note="Each tick of the controller decides something about each pool, also to change nothing. Equal holds in a row are one line."
        actions={
          <>
            <SegmentedControl
              size="xs"
              aria-label="Outcome"
              data={OUTCOMES}
              value={outcome}
              onChange={(value) => set("outcome", value)}
            />
            {(pools.data?.items.length ?? 0) > 1 && (
              <NativeSelect
                size="xs"
                aria-label="Pool"
                value={pool}
                onChange={(event) => set("pool", event.currentTarget.value)}
                data={[
                  { value: "", label: "All pools" },
                  ...(pools.data?.items ?? []).map(({ id, name }) => ({ value: id, label: name })),
                ]}
              />
            )}
          </>
        }
      />
      {decisions.isPending && <Loading height={420} />}
      {decisions.isError && items.length === 0 && (
        <Failed error={decisions.error} retry={() => void decisions.refetch()} />
      )}
      {decisions.isSuccess && items.length === 0 && (
        <Empty title="No decision here">
          {outcome || pool ? "None fits the filter. " : "The controller decides first when a node has joined. "}
          <Link to="/system">See whether a controller leads</Link>.
        </Empty>
      )}
      {items.length > 0 && (
        <ol className={classes.list}>
          {items.map((decision) => (
            <DecisionLine key={decision.id} decision={decision} />
          ))}
        </ol>
      )}
      {decisions.hasNextPage && (
        <Button
          variant="default"
          mt="md"
          loading={decisions.isFetchingNextPage}
          onClick={() => void decisions.fetchNextPage()}
        >
          Show older
        </Button>
      )}
    </>
  );
}

function DecisionLine({ decision }: { decision: Decision }) {
  const look = outcomeLook(decision.outcome);
  const held_s = (Date.parse(decision.last_at) - Date.parse(decision.at)) / 1000;
  return (
    <li className={classes.line} data-outcome={decision.outcome}>
      <div className={classes.side}>
        <Tag look={look} />
        <span className="small muted">
          <When at={decision.last_at} />
        </span>
      </div>
      <div className={classes.body}>
        <p className={classes.reason}>
          <Link to={`/decisions/${decision.id}`}>{words(decision.reason)}</Link>
          {Object.keys(decision.changes).length > 0 && (
            <span className="mono small">{changesText(decision.changes)}</span>
          )}
        </p>
        <p className={classes.text}>{decision.explanation}</p>
      </div>
      <div className={classes.meta}>
        <span>{decision.pool}</span>
        {decision.repeats > 1 && (
          <span>
            {decision.repeats.toLocaleString("en-GB")} times in {duration(held_s)}
          </span>
        )}
        {decision.breach_probability !== null && <span>breach {percent(decision.breach_probability)}</span>}
        {decision.rollout_id && <Link to={`/rollouts/${decision.rollout_id}`}>Rollout</Link>}
      </div>
    </li>
  );
}
