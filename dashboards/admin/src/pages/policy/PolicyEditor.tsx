import { Button, Tooltip } from "@mantine/core";
import { useState } from "react";
import { usePolicy, useSavePolicy } from "../../api/policies";
import { Problem } from "../../api/problem";
import type { PolicyNow, Pool } from "../../api/types";
import { useMayOperate } from "../../app/useRole";
import { FormProblem } from "../../components/FormProblem";
import { PageHeader } from "../../components/PageHeader";
import { Chip } from "../../components/Tag";
import { plural } from "../../lib/format";
import { fieldsOf, fieldTrouble, type Schema, valueAt } from "../../lib/policy";
import { ChangeList } from "./ChangeList";
import { ConflictDialog } from "./ConflictDialog";
import { FreezeWindows } from "./FreezeWindows";
import classes from "./Policy.module.css";
import { PolicyHistory } from "./PolicyHistory";
import { PolicySection } from "./PolicySection";
import { PolicyTrial } from "./PolicyTrial";
import { usePolicyDraft } from "./usePolicyDraft";

interface PolicyEditorProps {
  pool: Pool;
  schema: Schema;
  newest: PolicyNow;
}

/** What must hold in a pool, what may be turned, and how: edited as a whole, tried on the past, saved as a version. */
export function PolicyEditor({ pool, schema, newest }: PolicyEditorProps) {
  const draft = usePolicyDraft(newest);
  const latest = usePolicy(pool.id);
  const save = useSavePolicy(pool.id);
  const mayOperate = useMayOperate(pool.id);
  const [conflict, setConflict] = useState(false);
  const fields = fieldsOf(schema, schema, "", draft.document);
  const sections = [...new Set(fields.map((field) => field.path.split(".")[0] ?? ""))].filter(
    (name) => name !== FREEZES,
  );
  const wrong = fields.filter((field) => fieldTrouble(field, valueAt(draft.document, field.path)) !== null).length;
  const store = () =>
    save.mutate(
      { document: draft.document, version: draft.base.version },
      {
        onSuccess: draft.rebase,
        onError: (error) => {
          if (!(error instanceof Problem && error.status === 412)) return;
          void latest.refetch().then(() => setConflict(true));
        },
      },
    );
  return (
    <>
      <PageHeader
        title="Policy"
        trail={[
          { label: "Fleet", to: "/" },
          { label: pool.name, to: `/pools/${pool.id}` },
        ]}
        tags={<Chip>{draft.base.version === 0 ? "defaults" : `version ${draft.base.version}`}</Chip>}
        note="What must hold, what the controller may turn and how far, and how a change is tried. Each save is a version."
      />
      <div className={classes.layout}>
        <fieldset className={classes.sections} disabled={!mayOperate}>
          <legend className="visually-hidden">Policy of {pool.name}</legend>
          {sections.map((name) => (
            <PolicySection
              key={name}
              name={name}
              fields={fields.filter((field) => field.path === name || field.path.startsWith(`${name}.`))}
              draft={draft}
              error={save.error}
            />
          ))}
          <FreezeWindows draft={draft} error={save.error} />
        </fieldset>
        <div className={classes.side}>
          <section className={classes.save} aria-label="Your changes">
            <h2 className={classes.heading}>
              {draft.changes.length ? plural(draft.changes.length, "change") : "No change yet"}
            </h2>
            <ChangeList changes={draft.changes} />
            <FormProblem error={save.error} fields={fields.map((field) => field.path)} />
            <div className="row">
              <Tooltip label="Operators of this pool may do this" disabled={mayOperate}>
                <Button
                  loading={save.isPending}
                  disabled={!mayOperate || draft.changes.length === 0 || wrong > 0}
                  onClick={store}
                >
                  Save
                </Button>
              </Tooltip>
              <Button variant="default" disabled={draft.changes.length === 0} onClick={draft.discard}>
                Discard
              </Button>
            </div>
            <p className="small muted" aria-live="polite">
              {wrong > 0
                ? `${plural(wrong, "field")} cannot be saved as ${wrong === 1 ? "it is" : "they are"}.`
                : save.isSuccess && draft.changes.length === 0 && `Saved as version ${draft.base.version}.`}
            </p>
          </section>
          <PolicyTrial poolId={pool.id} draft={draft} ready={wrong === 0 && mayOperate} />
          <PolicyHistory poolId={pool.id} draft={draft} />
        </div>
      </div>
      {conflict && latest.data && (
        <ConflictDialog
          draft={draft}
          newest={latest.data}
          poolId={pool.id}
          onClose={() => {
            setConflict(false);
            save.reset();
          }}
        />
      )}
    </>
  );
}

const FREEZES = "freeze_windows";
