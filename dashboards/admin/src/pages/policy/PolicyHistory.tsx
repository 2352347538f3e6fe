import { Button } from "@mantine/core";
import { useState } from "react";
import { usePolicyVersions } from "../../api/policies";
import type { PolicyVersion } from "../../api/types";
import { Panel } from "../../components/Panel";
import { Answer } from "../../components/States";
import { When } from "../../components/When";
import { type Document, differences } from "../../lib/policy";
import { ChangeList } from "./ChangeList";
import classes from "./Policy.module.css";
import type { Draft } from "./usePolicyDraft";

/** Who set what, and when; an older version can be taken into the form. */
export function PolicyHistory({ poolId, draft }: { poolId: string; draft: Draft }) {
  const versions = usePolicyVersions(poolId);
  const [shown, setShown] = useState<number | null>(null);
  return (
    <Panel title="Versions">
      <Answer query={versions} height={80}>
        {(list) =>
          list.length === 0 ? (
            <p className="muted">Nobody has set a policy yet: the defaults hold.</p>
          ) : (
            <ul className={classes.versions}>
              {list.map((version, place) => (
                <li key={version.version}>
                  <div className="row spread">
                    <span>
                      Version {version.version}{" "}
                      <span className="muted">
                        by {version.created_by} · <When at={version.created_at} />
                      </span>
                    </span>
                    <Button
                      size="compact-xs"
                      variant="default"
                      aria-expanded={shown === version.version}
                      onClick={() => setShown(shown === version.version ? null : version.version)}
                    >
                      {shown === version.version ? "Hide" : "Look"}
                    </Button>
                  </div>
                  {shown === version.version && <Version version={version} before={list[place + 1]} draft={draft} />}
                </li>
              ))}
            </ul>
          )
        }
      </Answer>
    </Panel>
  );
}

function Version(props: { version: PolicyVersion; before: PolicyVersion | undefined; draft: Draft }) {
  const { version, before, draft } = props;
  const document = version.document as unknown as Document;
  const changes = before ? differences(before.document as unknown as Document, document) : [];
  return (
    <div className="stack">
      {before ? <ChangeList changes={changes} /> : <p className="small muted">The oldest version that is listed.</p>}
      <div>
        <Button size="compact-xs" variant="default" onClick={() => draft.take(document)}>
          Put it into the form
        </Button>
      </div>
    </div>
  );
}
