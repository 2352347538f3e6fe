"""Windows of several nodes become windows of an arm, and those of two arms are paired by time. Pure."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from controlplane.telemetry.observation import Observation

Windows = Mapping[str, Sequence[Observation]]  # by node id, any order


@dataclass(frozen=True, slots=True)
class ArmWindow:
    """One window of one arm. Latencies are seconds, the geometric mean over the arm's nodes; counts are sums, rounded.

    `ttft_p95_s` and `itl_p95_s` are None when no request finished; `requests` are those that ended, in success or error;
    `offered_rps` is per node.
    """

    end: datetime
    ttft_p95_s: float | None
    itl_p95_s: float | None
    requests: int
    errors: int
    rejected: int
    offered_rps: float


@dataclass(frozen=True, slots=True)
class Pair:
    """The same span of time on the canary and on the control; `control` is None in a pool without one."""

    end: datetime
    canary: ArmWindow
    control: ArmWindow | None


def grid(start: datetime, end: datetime, window_s: float) -> list[datetime]:
    """Ends of the windows that lie wholly inside [start, end], oldest first.

    They sit on multiples of `window_s` since 1970, so that all rollouts of one pace ask Prometheus for the same spans.
    """
    first = math.ceil(start.timestamp() / window_s - 1e-9) + 1
    last = math.floor(end.timestamp() / window_s + 1e-9)
    return [datetime.fromtimestamp(k * window_s, UTC) for k in range(first, last + 1)]


def arm(windows: Windows, node_ids: Iterable[str]) -> dict[datetime, ArmWindow]:
    """Window end -> window of the arm, for the ends at which each node of it was measured and can be trusted."""
    ids = list(node_ids)
    by_node = [{seen.window_end: seen for seen in windows.get(node_id, ()) if seen.usable} for node_id in ids]
    if not by_node:
        return {}
    ends = set(by_node[0]).intersection(*by_node[1:])
    return {end: _combine(end, [node[end] for node in by_node]) for end in sorted(ends)}


def pairs(windows: Windows, canary: Sequence[str], control: Sequence[str]) -> tuple[Pair, ...]:
    """Oldest first: the windows that both arms have."""
    ours, theirs = arm(windows, canary), arm(windows, control)
    if not control:
        return tuple(Pair(end, window, None) for end, window in ours.items())
    return tuple(Pair(end, window, theirs[end]) for end, window in ours.items() if end in theirs)


def within(found: Sequence[Pair], start: datetime, end: datetime, window_s: float) -> tuple[Pair, ...]:
    """Pairs whose whole window lies inside [start, end]."""
    span = timedelta(seconds=window_s)
    return tuple(pair for pair in found if start <= pair.end - span and pair.end <= end)


def _combine(end: datetime, seen: Sequence[Observation]) -> ArmWindow:
    errors = sum(window.errors or 0.0 for window in seen)
    finished = sum(window.requests or 0.0 for window in seen)
    return ArmWindow(
        end=end,
        ttft_p95_s=_geometric_mean([window.ttft_p95_s for window in seen]),
        itl_p95_s=_geometric_mean([window.itl_p95_s for window in seen]),
        requests=round(finished + errors),
        errors=round(errors),
        rejected=round(sum(window.rejected or 0.0 for window in seen)),
        offered_rps=sum(window.offered_rps or 0.0 for window in seen) / len(seen),
    )


def _geometric_mean(values: Iterable[float | None]) -> float | None:
    known = [math.log(value) for value in values if value is not None and value > 0]
    return math.exp(sum(known) / len(known)) if known else None
