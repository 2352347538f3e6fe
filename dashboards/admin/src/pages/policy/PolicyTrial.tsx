import { Button, NativeSelect } from "@mantine/core";
import { useState } from "react";
import { Link } from "react-router";
import { useTryPolicy } from "../../api/policies";
import type { PolicyTrial as Trial } from "../../api/types";
import { Panel } from "../../components/Panel";
import { Failed } from "../../components/States";
import { When } from "../../components/When";
import { plural, words } from "../../lib/format";
import { changesText } from "../../lib/settings";
import classes from "./Policy.module.css";
import type { Draft } from "./usePolicyDraft";

const SPANS = [
  { value: "1", label: "last hour" },
  { value: "24", label: "last 24 hours" },
  { value: "168", label: "last week" },
];

/** What the recorded decisions would have been under the policy as it stands in the form. */
export function PolicyTrial({ poolId, draft, ready }: { poolId: string; draft: Draft; ready: boolean }) {
  const attempt = useTryPolicy(poolId);
  const [hours, setHours] = useState("24");
  const tried = attempt.variables?.document === draft.document;
  return (
    <Panel title="Try it on the past">
      <div className="stack">
        <p className="small muted">
          Each decision of that time is made again from its own recorded inputs. Nothing is changed.
        </p>
        <div className="row">
          <NativeSelect
            size="xs"
            aria-label="Which decisions"
            data={SPANS}
            value={hours}
            onChange={(event) => setHours(event.currentTarget.value)}
          />
          <Button
            size="xs"
            variant="default"
            disabled={!ready}
            loading={attempt.isPending}
            onClick={() => attempt.mutate({ document: draft.document, hours: Number(hours) })}
          >
            Try
          </Button>
        </div>
        {attempt.error && <Failed error={attempt.error} />}
        {attempt.data && !tried && <p className="small muted">The form has changed since: try again.</p>}
        {attempt.data && tried && <Result trial={attempt.data} />}
      </div>
    </Panel>
  );
}

function Result({ trial }: { trial: Trial }) {
  if (trial.decisions === 0) return <p>No decision was recorded in that time.</p>;
  return (
    <div className="stack" aria-live="polite">
      <p>
        {trial.differing === 0 ? "All" : `${trial.looked_at - trial.differing}`} of{" "}
        {plural(trial.looked_at, "decision")} would have come out the same.{" "}
        {trial.would_propose === trial.proposed
          ? `As many changes proposed: ${trial.proposed}.`
          : `Changes proposed: ${trial.proposed} then, ${trial.would_propose} under this policy.`}
        {trial.looked_at < trial.decisions &&
          ` The newest ${trial.looked_at} of ${trial.decisions} fitted into the time of one request.`}
      </p>
      <ul className={classes.differences}>
        {trial.differences.map((each) => (
          <li key={each.decision_id}>
            <Link to={`/decisions/${each.decision_id}`}>
              <When at={each.at} />
            </Link>
            <span>
              {said(each.outcome, each.reason, each.changes)} <span className="muted">would be</span>{" "}
              {said(each.would_outcome, each.would_reason, each.would_change)}
            </span>
          </li>
        ))}
      </ul>
      {trial.differing > trial.differences.length && (
        <p className="small muted">
          The newest {trial.differences.length} of {trial.differing} are shown.
        </p>
      )}
    </div>
  );
}

function said(outcome: string, reason: string, changes: Trial["differences"][number]["changes"]): string {
  const entries = Object.keys(changes).length ? ` (${changesText(changes as Parameters<typeof changesText>[0])})` : "";
  return `${words(outcome)}, ${words(reason).toLowerCase()}${entries}`;
}
