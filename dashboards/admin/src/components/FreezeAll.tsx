import { Button } from "@mantine/core";
import { useState } from "react";
import { useFreezeEverything, useUnfreezeEverything } from "../api/mutations";
import { useFleet } from "../api/queries";
import type { System } from "../api/types";
import { useMayOperateEverywhere } from "../app/useRole";
import { plural } from "../lib/format";
import { ConfirmDialog } from "./ConfirmDialog";
import classes from "./FreezeAll.module.css";
import { SnowIcon } from "./icons";
import { When } from "./When";

/** The big switch: no pool changes while it is on. Says beforehand what that stops and what goes on. */
export function FreezeAll({ system }: { system: System }) {
  // What is asked stays, whatever the answer turns the switch to meanwhile.
  const [asked, setAsked] = useState<"freeze" | "lift" | null>(null);
  const close = () => setAsked(null);
  const mayOperate = useMayOperateEverywhere();
  const { frozen } = system;
  return (
    <section className={classes.switch} data-on={frozen !== null || undefined} aria-labelledby="freeze-all">
      <SnowIcon size={28} />
      <div className={classes.words}>
        <h2 id="freeze-all" className={classes.title}>
          {frozen ? "Everything is frozen" : "Freeze everything"}
        </h2>
        <p>
          {frozen ? (
            <>
              {frozen.actor} stopped all changes <When at={frozen.at} />: {frozen.reason}
            </>
          ) : (
            "In an incident: no pool is changed until somebody lifts it. Nodes go on serving as they are."
          )}
        </p>
      </div>
      <Button
        size="md"
        {...(frozen ? {} : { color: "red" })}
        disabled={!mayOperate}
        onClick={() => setAsked(frozen ? "lift" : "freeze")}
      >
        {frozen ? "Lift the freeze" : "Freeze everything"}
      </Button>
      {asked === "freeze" && <Freeze onClose={close} />}
      {asked === "lift" && <Lift onClose={close} />}
    </section>
  );
}

function Freeze({ onClose }: { onClose: () => void }) {
  const freeze = useFreezeEverything();
  const pools = useFleet().data?.pools ?? [];
  const nodes = pools.reduce((sum, pool) => sum + pool.nodes, 0);
  const active = pools.filter((pool) => pool.active_rollout !== null).length;
  return (
    <ConfirmDialog
      opened
      onClose={onClose}
      title="Freeze everything?"
      confirm="Freeze everything"
      severe
      reasonLabel="Reason"
      pending={freeze.isPending}
      error={freeze.error}
      onConfirm={(reason) => freeze.mutate(reason, { onSuccess: onClose })}
    >
      <ul className={classes.consequences}>
        <li>
          No new change reaches {plural(nodes, "node")} in {plural(pools.length, "pool")}, nor pools that join later.
        </li>
        <li>
          {active > 0
            ? `${plural(active, "rollout")} under way ${active === 1 ? "pauses" : "pause"}; rollbacks stay possible.`
            : "No rollout is under way; rollbacks stay possible."}
        </li>
        <li>Nodes go on serving. Decisions are still made and recorded, and none of them is carried out.</li>
      </ul>
    </ConfirmDialog>
  );
}

function Lift({ onClose }: { onClose: () => void }) {
  const unfreeze = useUnfreezeEverything();
  return (
    <ConfirmDialog
      opened
      onClose={onClose}
      title="Lift the freeze?"
      confirm="Lift the freeze"
      pending={unfreeze.isPending}
      error={unfreeze.error}
      onConfirm={() => unfreeze.mutate(undefined, { onSuccess: onClose })}
    >
      From the next decision on pools may change again, but for those that are frozen for themselves. Rollouts that the
      freeze paused go on where they were.
    </ConfirmDialog>
  );
}
