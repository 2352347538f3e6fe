import { Button, Modal, Textarea } from "@mantine/core";
import { useState } from "react";
import { useNavigate } from "react-router";
import { type RolloutOrder, useCreateRollout, usePlanRollout } from "../../api/mutations";
import { fieldProblem, isBeside } from "../../api/problem";
import { useKnobs } from "../../api/queries";
import type { EngineSettings, Pool, RolloutPlan } from "../../api/types";
import { SettingsDiff } from "../../components/SettingsDiff";
import { Answer, Failed } from "../../components/States";
import { StepLadder } from "../../components/StepLadder";
import { duration, plural } from "../../lib/format";
import { changesBetween, knobProblem } from "../../lib/settings";
import { KnobField } from "./KnobField";
import classes from "./Rollouts.module.css";

interface NewRolloutProps {
  opened: boolean;
  onClose: () => void;
  pool: Pool;
}

/** Settings by hand: change knobs, see the difference, ask what would happen, then start. */
export function NewRollout({ opened, onClose, pool }: NewRolloutProps) {
  return (
    <Modal
      opened={opened}
      onClose={onClose}
      size="xl"
      title={`New rollout to ${pool.name}`}
      closeButtonProps={{ "aria-label": "Close" }}
    >
      {pool.current_revision ? (
        <Form pool={pool} current={pool.current_revision.settings} onClose={onClose} />
      ) : (
        <p>This pool has no settings yet: they come with its first node.</p>
      )}
    </Modal>
  );
}

function Form({ pool, current, onClose }: { pool: Pool; current: EngineSettings; onClose: () => void }) {
  const knobs = useKnobs();
  const navigate = useNavigate();
  const plan = usePlanRollout();
  const create = useCreateRollout();
  const [wanted, setWanted] = useState<EngineSettings>(current);
  const [reason, setReason] = useState("");

  const error = plan.error ?? create.error;
  const fields = ["reason", ...(knobs.data ?? []).map(({ name }) => `settings.${name}`)];
  const changes = changesBetween(current, wanted);
  const wrong = (knobs.data ?? []).some((knob) => knobProblem(knob, wanted[knob.name] ?? knob.default) !== null);
  const ready = Object.keys(changes).length > 0 && reason.trim() !== "" && !wrong;
  const order: RolloutOrder = {
    pool_id: pool.id,
    settings: Object.fromEntries(Object.keys(changes).map((name) => [name, wanted[name] ?? ""])),
    reason: reason.trim(),
  };
  const start = () =>
    create.mutate(order, {
      onSuccess: (rollout) => {
        onClose();
        void navigate(`/rollouts/${rollout.id}`);
      },
    });
  return (
    <div className="stack">
      <Answer query={knobs}>
        {(list) => (
          <div className={classes.form}>
            {list.map((knob) => (
              <KnobField
                key={knob.name}
                knob={knob}
                value={wanted[knob.name] ?? knob.default}
                said={fieldProblem(error, `settings.${knob.name}`)}
                onChange={(value) => {
                  setWanted({ ...wanted, [knob.name]: value });
                  plan.reset();
                  create.reset();
                }}
              />
            ))}
          </div>
        )}
      </Answer>
      <div className={classes.plan}>
        <SettingsDiff changes={changes} knobs={knobs.data ?? []} />
      </div>
      <Textarea
        label="Reason"
        description="Stands in the history."
        required
        autosize
        value={reason}
        error={fieldProblem(error, "reason")}
        onChange={(event) => setReason(event.currentTarget.value)}
      />
      {plan.data && <Plan plan={plan.data} />}
      {error && isBeside(error, fields) && <Failed error={error} />}
      <div className="row" style={{ justifyContent: "flex-end" }}>
        <Button variant="default" disabled={!ready} loading={plan.isPending} onClick={() => plan.mutate(order)}>
          Check without changing anything
        </Button>
        <Button disabled={!ready} loading={create.isPending} onClick={start}>
          Start rollout
        </Button>
      </div>
    </div>
  );
}

function Plan({ plan }: { plan: RolloutPlan }) {
  const order = plan.nodes.map((node) => node.name).join(", then ");
  return (
    <section className={classes.plan} aria-label="What would happen" aria-live="polite">
      <p style={{ marginBottom: 10 }}>
        This would reach {plural(plan.nodes.length, "node")}: {order}. The canary is watched for{" "}
        {duration(plan.canary_watch_s)} at least.
      </p>
      <StepLadder steps={plan.steps} compact />
      <ul className={classes.notes}>
        {plan.notes.map((note) => (
          <li key={note}>{note}</li>
        ))}
      </ul>
    </section>
  );
}
