import { Button, SegmentedControl } from "@mantine/core";
import { Link, useSearchParams } from "react-router";
import { type RolloutFilter, useRollouts } from "../../api/rollouts";
import type { Rollout } from "../../api/types";
import { PageHeader } from "../../components/PageHeader";
import { Empty, Failed, Loading } from "../../components/States";
import { StepLadder } from "../../components/StepLadder";
import { Tag } from "../../components/Tag";
import { hasEnded, phaseLook } from "../../components/tones";
import { When } from "../../components/When";
import { duration, plural } from "../../lib/format";
import { changesText } from "../../lib/settings";
import { ApprovalTag } from "./Approval";
import classes from "./Rollouts.module.css";

const FILTERS: Record<string, RolloutFilter> = {
  "": {},
  waiting: { phase: "PENDING_APPROVAL" },
  true: { active: true },
  false: { active: false },
};

function searchOf(shown: string, pool: string): Record<string, string> {
  const filter: Record<string, string> =
    shown === "waiting" ? { phase: "PENDING_APPROVAL" } : shown ? { active: shown } : {};
  return pool ? { ...filter, pool } : filter;
}

export function RolloutsPage() {
  const [search, setSearch] = useSearchParams();
  const shown = search.get("phase") === "PENDING_APPROVAL" ? "waiting" : (search.get("active") ?? "");
  const pool = search.get("pool") ?? "";
  const rollouts = useRollouts({
    ...FILTERS[shown],
    ...(pool ? { pool_id: pool } : {}),
  });
  const items = rollouts.data?.pages.flatMap((page) => page.items) ?? [];
  return (
    <>
      <PageHeader
        title="Rollouts"
        note="A change reaches one node first, is compared with its peers, and goes on only when it does no harm."
        actions={
          <SegmentedControl
            size="xs"
            aria-label="Which rollouts"
            value={shown in FILTERS ? shown : ""}
            onChange={(value) => setSearch(searchOf(value, pool), { replace: true })}
            data={[
              { value: "", label: "All" },
              { value: "waiting", label: "To approve" },
              { value: "true", label: "Under way" },
              { value: "false", label: "Ended" },
            ]}
          />
        }
      />
      {rollouts.isPending && <Loading height={420} />}
      {rollouts.isError && items.length === 0 && (
        <Failed error={rollouts.error} retry={() => void rollouts.refetch()} />
      )}
      {rollouts.isSuccess && items.length === 0 && <NoRollouts shown={shown} />}
      {items.length > 0 && (
        <ol className={classes.list}>
          {items.map((rollout) => (
            <RolloutLine key={rollout.id} rollout={rollout} />
          ))}
        </ol>
      )}
      {rollouts.hasNextPage && (
        <Button
          variant="default"
          mt="md"
          loading={rollouts.isFetchingNextPage}
          onClick={() => void rollouts.fetchNextPage()}
        >
          Show older
        </Button>
      )}
    </>
  );
}

function NoRollouts({ shown }: { shown: string }) {
  switch (shown) {
    case "waiting":
      return (
        <Empty title="Nothing waits for approval">
          Changes that a pool's policy does not let begin by themselves come here first.
        </Empty>
      );
    case "true":
      return (
        <Empty title="Nothing is under way">
          A decision to apply starts one by itself, or start one from a pool's page.
        </Empty>
      );
    default:
      return (
        <Empty title="No rollout yet">A decision to apply starts one by itself, or start one from a pool's page.</Empty>
      );
  }
}

function RolloutLine({ rollout }: { rollout: Rollout }) {
  const ended = hasEnded(rollout.phase);
  const took_s = rollout.ended_at ? (Date.parse(rollout.ended_at) - Date.parse(rollout.created_at)) / 1000 : null;
  return (
    <li className={classes.line}>
      <div className={classes.lineHead}>
        <Tag look={phaseLook(rollout.phase)} />
        <ApprovalTag rollout={rollout} />
        <Link to={`/rollouts/${rollout.id}`} className={classes.change}>
          {changesText(rollout.changes)}
        </Link>
        <span className={classes.meta}>
          {rollout.pool} · {plural(rollout.nodes.length, "node")} · revision {rollout.from_revision.number} to{" "}
          {rollout.to_revision.number} · <When at={rollout.created_at} />
          {took_s !== null && ` · took ${duration(took_s)}`}
        </span>
      </div>
      <p className={classes.reason}>{rollout.outcome ?? rollout.paused_reason ?? rollout.reason}</p>
      {!ended && <StepLadder steps={rollout.steps} compact />}
    </li>
  );
}
