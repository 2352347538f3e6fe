import { Component, type ReactNode } from "react";
import { useLocation } from "react-router";
import { Failed } from "../components/States";

/** Shows what is in it, or why that could not be shown: a bug of ours, or a new version whose old files are gone from the
 * server. Other pages are shown as ever; this one is loaded anew with the whole app. */
export function RouteFailed({ children }: { children: ReactNode }) {
  return <Caught at={useLocation().pathname}>{children}</Caught>;
}

interface CaughtProps {
  at: string;
  children: ReactNode;
}

interface CaughtState {
  failure: { error: unknown } | null;
}

class Caught extends Component<CaughtProps, CaughtState> {
  override state: CaughtState = { failure: null };

  static getDerivedStateFromError(error: unknown): Partial<CaughtState> {
    return { failure: { error } };
  }

  override componentDidUpdate(before: CaughtProps): void {
    if (before.at !== this.props.at && this.state.failure) this.setState({ failure: null });
  }

  override render(): ReactNode {
    if (!this.state.failure) return this.props.children;
    return (
      <div style={{ padding: 24 }}>
        <Failed error={this.state.failure.error} retry={() => window.location.reload()} />
      </div>
    );
  }
}
