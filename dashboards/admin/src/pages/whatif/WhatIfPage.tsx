import { Button, NativeSelect } from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { useEffect, useRef, useState } from "react";
import { Link, useSearchParams } from "react-router";
import { Problem } from "../../api/problem";
import { useKnobs, usePools } from "../../api/queries";
import type { Knob, Pool, WhatIf } from "../../api/types";
import { useWhatIf } from "../../api/whatIf";
import { BackIcon } from "../../components/icons";
import { PageHeader } from "../../components/PageHeader";
import { Panel } from "../../components/Panel";
import { Answer, Empty, Failed, Loading } from "../../components/States";
import { type Draft, draftOf, problemsOf, questionOf } from "../../lib/whatIf";
import { CheckTable } from "./CheckTable";
import { FigureTable } from "./FigureTable";
import { LoadCharts } from "./LoadCharts";
import { Propose } from "./Propose";
import classes from "./WhatIf.module.css";
import { WhatIfForm } from "./WhatIfForm";

/** Long enough that a slider on its way does not ask at every stop. */
const PAUSE_MS = 200;

export function WhatIfPage() {
  const pools = usePools();
  const [search, setSearch] = useSearchParams();
  const items = pools.data?.items ?? [];
  const pool = items.find(({ id }) => id === search.get("pool")) ?? items[0];
  const choose = (id: string) => setSearch({ pool: id }, { replace: true });
  if (!pools.data || !pool)
    return (
      <>
        <PageHeader title="What if" />
        {pools.data ? (
          <Empty title="No pool yet">It comes with the first node that joins.</Empty>
        ) : (
          <Answer query={pools}>{() => null}</Answer>
        )}
      </>
    );
  return <Simulator key={pool.id} pool={pool} pools={items} choose={choose} />;
}

/** What is asked, kept in the address as well. It stands here at once: the router takes an address over when it has time, and
 * what is typed until then would be put back. */
function useDraft(): [Draft, (name: string, text: string | null) => void, () => void] {
  const [search, setSearch] = useSearchParams();
  const [draft, setDraft] = useState(() => draftOf(search));
  const written = useRef<string[]>([]); // addresses of our own that the router has not taken over yet
  useEffect(() => {
    const place = written.current.indexOf(search.toString());
    if (place >= 0) written.current.splice(0, place + 1);
    else setDraft(draftOf(search)); // a link was followed
  }, [search]);
  const write = (next: Draft) => {
    const pool = search.get("pool");
    const address = new URLSearchParams({ ...(pool ? { pool } : {}), ...next });
    written.current.push(address.toString());
    setDraft(next);
    setSearch(address, { replace: true });
  };
  const change = (name: string, text: string | null) => {
    const { [name]: _, ...others } = draft;
    write(text === null ? others : { ...others, [name]: text });
  };
  return [draft, change, () => write({})];
}

function Simulator({ pool, pools, choose }: { pool: Pool; pools: Pool[]; choose: (id: string) => void }) {
  const knobs = useKnobs();
  const list = knobs.data ?? NONE;
  const [draft, change, clear] = useDraft();
  const problems = problemsOf(draft, list);
  const [asked] = useDebouncedValue(JSON.stringify(draft), PAUSE_MS);
  const settled: Draft = JSON.parse(asked);
  const answer = useWhatIf(pool.id, questionOf(settled, list));
  const pending = asked !== JSON.stringify(draft) || answer.isPlaceholderData;
  const touched = Object.keys(draft).length > 0;
  return (
    <>
      <PageHeader
        title="What if"
        trail={[{ label: pool.name, to: `/pools/${pool.id}` }]}
        note="Other settings, or another load, on the model that decisions are made with. Nothing is changed."
        actions={
          <>
            {pools.length > 1 && (
              <NativeSelect
                size="xs"
                aria-label="Pool"
                value={pool.id}
                data={pools.map(({ id, name }) => ({ value: id, label: name }))}
                onChange={(event) => choose(event.currentTarget.value)}
              />
            )}
            <Button variant="default" leftSection={<BackIcon size={14} />} disabled={!touched} onClick={clear}>
              As it is
            </Button>
            <Propose pool={pool} answer={pending || answer.isError ? undefined : answer.data} />
          </>
        }
      />
      <div className={classes.layout}>
        <Panel title="Settings and load">
          {answer.data && knobs.data ? (
            <WhatIfForm
              pool={pool}
              knobs={knobs.data}
              answer={answer.data}
              draft={draft}
              problems={problems}
              error={answer.error}
              onChange={change}
            />
          ) : answer.isError ? (
            <p className="muted">There is nothing to fill in yet.</p>
          ) : (
            <Loading height={420} />
          )}
        </Panel>
        <div className="stack" aria-live="polite" aria-busy={pending}>
          <Result
            answer={answer.data}
            error={answer.error}
            pool={pool}
            stale={pending}
            retry={() => void answer.refetch()}
          />
        </div>
      </div>
    </>
  );
}

interface ResultProps {
  answer: WhatIf | undefined;
  error: Error | null;
  pool: Pool;
  stale: boolean;
  retry: () => void;
}

function Result({ answer, error, pool, stale, retry }: ResultProps) {
  if (error instanceof Problem && error.status === 409)
    return (
      <Panel>
        <Empty title={error.message}>
          {error.detail} The model learns from the nodes' own probe and from requests that they serve;{" "}
          <Link to={`/pools/${pool.id}`}>the pool's page</Link> shows both.
        </Empty>
      </Panel>
    );
  if (error && !(error instanceof Problem && error.status === 422)) return <Failed error={error} retry={retry} />;
  if (!answer) return <Loading height={520} />;
  return (
    <div className={stale ? `stack ${classes.stale}` : "stack"}>
      {answer.unknown && (
        <Panel>
          <Empty title="Nothing is known of these settings">{answer.unknown}</Empty>
        </Panel>
      )}
      <FigureTable answer={answer} slo={pool.slo} />
      <LoadCharts answer={answer} slo={pool.slo} />
      <CheckTable answer={answer} />
    </div>
  );
}

const NONE: Knob[] = [];
