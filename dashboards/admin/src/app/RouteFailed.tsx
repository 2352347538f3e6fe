import { useRouteError } from "react-router";
import { Failed } from "../components/States";

/** A page that could not be shown: a bug of ours, or a new version whose old files are gone from the server. */
export function RouteFailed() {
  const error = useRouteError();
  return (
    <div style={{ padding: 24 }}>
      <Failed error={error} retry={() => window.location.reload()} />
    </div>
  );
}
