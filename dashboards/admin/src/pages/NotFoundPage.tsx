import { Link } from "react-router";
import { PageHeader } from "../components/PageHeader";
import { Empty } from "../components/States";

export function NotFoundPage() {
  return (
    <>
      <PageHeader title="No such page" />
      <Empty title="Nothing lives at this address">
        The link may be mistyped or of an older version. <Link to="/">Go to the fleet</Link>, or press ⌘K (Ctrl K) to
        search.
      </Empty>
    </>
  );
}
