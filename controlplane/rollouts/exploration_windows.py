"""The windows of a tried node beside its peers' of the same time, before the try and while it was in force. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import fmean

from controlplane.telemetry.observation import Observation

Windows = Mapping[str, Sequence[Observation]]  # by node id, any order


@dataclass(frozen=True, slots=True)
class Beside:
    """One span of time on the tried node and on those of its peers that were measured then, one at least."""

    node: Observation
    peers: tuple[Observation, ...]

    def log_ratio(self, metric: str) -> float | None:
        """log(node / geometric mean of the peers); None where either has no such figure."""
        mine, theirs = mean_log([getattr(self.node, metric)]), mean_log([getattr(peer, metric) for peer in self.peers])
        return None if mine is None or theirs is None else mine - theirs


@dataclass(frozen=True, slots=True)
class Counts:
    """Of requests that ended while something was tried, in success or error; and of errors."""

    requests: int = 0
    requests_peers: int = 0
    failed: int = 0
    failed_peers: int = 0


@dataclass(frozen=True, slots=True)
class Stretches:
    """Oldest first. touched: those during which the try was in force for some time, at its begin and end for a part of it."""

    before: tuple[Beside, ...]
    during: tuple[Beside, ...]
    touched: tuple[Beside, ...] = ()

    @property
    def counts(self) -> Counts:
        mine = [each.node for each in self.during]
        theirs = [peer for each in self.during for peer in each.peers]
        failed, failed_peers = (round(sum(seen.errors or 0.0 for seen in arm)) for arm in (mine, theirs))
        ended, ended_peers = (round(sum(seen.requests or 0.0 for seen in arm)) for arm in (mine, theirs))
        return Counts(ended + failed, ended_peers + failed_peers, failed, failed_peers)

    def levels(self, metric: str) -> tuple[float | None, float | None]:
        """Geometric means of node and peers while it was tried."""
        mine = mean_log([getattr(each.node, metric) for each in self.during])
        theirs = mean_log([getattr(peer, metric) for each in self.during for peer in each.peers])
        return (None if mine is None else math.exp(mine), None if theirs is None else math.exp(theirs))

    def rates(self) -> tuple[float, float]:
        """Requests per second that the node was offered, and a peer on average."""
        if not self.during:
            return 0.0, 0.0
        mine = fmean(each.node.offered_rps or 0.0 for each in self.during)
        return mine, fmean(fmean(peer.offered_rps or 0.0 for peer in each.peers) for each in self.during)


def stretches(
    windows: Windows, node_id: str, *, began: datetime, applied: datetime | None, ended: datetime, settle_s: float
) -> Stretches:
    """windows: of the node and its peers. applied: when the node had the settings, None for never.

    Windows that overlap count once: what is compared must be independent. Of a try that ended within its settle time, the
    windows within it are all that there is, and of one that ended within a window those that it touched.
    """
    found = _beside(windows, node_id)
    before = tuple(each for each in found if each.node.window_end <= began)
    if applied is None:
        return Stretches(before, ())
    touched = tuple(each for each in found if applied < each.node.window_end and start(each.node) < ended)
    under = tuple(each for each in touched if applied <= start(each.node) and each.node.window_end <= ended)
    settled = tuple(each for each in under if applied + timedelta(seconds=settle_s) <= start(each.node))
    return Stretches(before, settled or under or touched, touched)


def start(seen: Observation) -> datetime:
    return seen.window_end - timedelta(seconds=seen.window_s)


def mean_log(values: Sequence[float | None]) -> float | None:
    known = [math.log(value) for value in values if value]
    return fmean(known) if known else None


def _beside(windows: Windows, node_id: str) -> list[Beside]:
    others = sorted(windows.keys() - {node_id})
    peers = [{seen.window_end: seen for seen in windows[other] if seen.usable} for other in others]
    found: list[Beside] = []
    for seen in sorted(windows.get(node_id, ()), key=lambda each: each.window_end):
        there = tuple(theirs[seen.window_end] for theirs in peers if seen.window_end in theirs)
        overlaps = bool(found) and start(seen) < found[-1].node.window_end
        if seen.usable and there and not overlaps:
            found.append(Beside(seen, there))
    return found
