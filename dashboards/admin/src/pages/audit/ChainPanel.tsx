import { Button, Tooltip } from "@mantine/core";
import { useVerifyAudit, type Verification } from "../../api/audit";
import { useMayOperateEverywhere } from "../../app/useRole";
import { CheckIcon, WarnIcon } from "../../components/icons";
import { Panel } from "../../components/Panel";
import { Failed } from "../../components/States";
import { Tag } from "../../components/Tag";
import { moment, number, plural } from "../../lib/format";
import classes from "./Audit.module.css";

/** Whether the history is as it was written: read from its first entry to its last when somebody asks. */
export function ChainPanel() {
  const verify = useVerifyAudit();
  const may = useMayOperateEverywhere();
  return (
    <Panel
      title="Chain"
      aside={
        <Tooltip label="Operators may do this" disabled={may}>
          <Button
            size="compact-sm"
            variant="default"
            disabled={!may}
            loading={verify.isPending}
            onClick={() => verify.mutate()}
          >
            Verify
          </Button>
        </Tooltip>
      }
    >
      <div aria-live="polite">
        {verify.data ? (
          <Verified found={verify.data} />
        ) : (
          <p className="muted">
            Each entry holds the hash of the one before. Verify reads them all;{" "}
            <span className="mono">trimtab audit verify</span> does it without this server.
          </p>
        )}
        {verify.error && <Failed error={verify.error} />}
      </div>
    </Panel>
  );
}

function Verified({ found }: { found: Verification }) {
  return (
    <div className="stack">
      <p className="row">
        <Tag
          look={
            found.intact
              ? { tone: "ok", icon: CheckIcon, text: "Intact" }
              : { tone: "bad", icon: WarnIcon, text: "Not as it was written" }
          }
        />
        <span>
          {plural(found.checked, "entry", "entries")} read
          {found.signatures > 0 && found.signed_until
            ? `, signed until ${moment(found.signed_until)} (entry ${number(found.signed_position)})`
            : ", not signed: no key is configured"}
          {found.loose > 0 && `, ${plural(found.loose, "event")} not yet in the chain`}.
        </span>
      </p>
      <p className="small muted">
        Last hash <span className={`mono ${classes.hash}`}>{found.head_hash}</span>: kept elsewhere, it proves
        everything until here.
      </p>
      {found.findings.length > 0 && (
        <ul className={classes.findings}>
          {found.findings.map((finding) => (
            <li key={JSON.stringify(finding)}>{Object.values(finding).join(": ")}</li>
          ))}
        </ul>
      )}
    </div>
  );
}
