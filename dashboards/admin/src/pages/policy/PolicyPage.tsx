import { useParams } from "react-router";
import { usePolicy, usePolicySchema } from "../../api/policies";
import { usePool } from "../../api/queries";
import type { Pool } from "../../api/types";
import { Answer } from "../../components/States";
import { PolicyEditor } from "./PolicyEditor";

export function PolicyPage() {
  const { poolId = "" } = useParams();
  const pool = usePool(poolId);
  return <Answer query={pool}>{(data) => <Loaded pool={data} />}</Answer>;
}

function Loaded({ pool }: { pool: Pool }) {
  const schema = usePolicySchema();
  const policy = usePolicy(pool.id);
  return (
    <Answer query={schema} height={420}>
      {(described) => (
        <Answer query={policy} height={420}>
          {(now) => <PolicyEditor key={pool.id} pool={pool} schema={described.document_schema} newest={now} />}
        </Answer>
      )}
    </Answer>
  );
}
