import { Button, SegmentedControl } from "@mantine/core";
import { Link, useSearchParams } from "react-router";
import { useRollouts } from "../../api/rollouts";
import type { Rollout } from "../../api/types";
import { PageHeader } from "../../components/PageHeader";
import { Empty, Failed, Loading } from "../../components/States";
import { StepLadder } from "../../components/StepLadder";
import { Tag } from "../../components/Tag";
import { hasEnded, phaseLook } from "../../components/tones";
import { When } from "../../components/When";
import { duration, plural } from "../../lib/format";
import { changesText } from "../../lib/settings";
import classes from "./Rollouts.module.css";

export function RolloutsPage() {
  const [search, setSearch] = useSearchParams();
  const active = search.get("active") ?? "";
  const pool = search.get("pool") ?? "";
  const rollouts = useRollouts({
    ...(active ? { active: active === "true" } : {}),
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
            value={active}
            onChange={(value) => setSearch(value ? { active: value } : {}, { replace: true })}
            data={[
              { value: "", label: "All" },
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
      {rollouts.isSuccess && items.length === 0 && (
        <Empty title={active === "true" ? "Nothing is under way" : "No rollout yet"}>
          A decision to apply starts one by itself, or start one from a pool's page.
        </Empty>
      )}
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

function RolloutLine({ rollout }: { rollout: Rollout }) {
  const ended = hasEnded(rollout.phase);
  const took_s = rollout.ended_at ? (Date.parse(rollout.ended_at) - Date.parse(rollout.created_at)) / 1000 : null;
  return (
    <li className={classes.line}>
      <div className={classes.lineHead}>
        <Tag look={phaseLook(rollout.phase)} />
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
