"""What the answers of a pool lost of late: the books that its quality budget is kept by (docs/adr/0036, docs/adr/0049).

By answered tokens. Faster, worse answers are in force when most is answered, so that by time alone they would count for less than
what clients get of them.
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from controlplane.decisions.certified import loss_of
from controlplane.decisions.decision import NodeFacts
from controlplane.decisions.policy import Policy
from controlplane.fleets.readings import NodeReading
from inference_node.contract.settings import EngineSettings

# Windows that are out of the span are let go of so many at a time.
_MANY = 256


class TokenBook:
    """How many tokens a pool answered when, over the last `span_s`. Windows are fed in order of time; one that is older, or fed
    twice, changes nothing."""

    def __init__(self, span_s: float) -> None:
        self._span_s = span_s
        self._newest = -float("inf")
        # Of each measured window, seconds since the epoch and tokens per second, and the sums up to its end.
        self._starts, self._ends, self._rates = array("d"), array("d"), array("d")
        self._tokens, self._seconds = array("d"), array("d")

    def push(self, window_end: datetime, window_s: float, tokens_per_s: float | None) -> None:
        """tokens_per_s: None where it was not measured."""
        end = window_end.timestamp()
        if end <= self._newest:
            return
        # Where windows overlap, only what lies after the one before is new.
        fresh_s = min(end - self._newest, window_s)
        self._newest = end
        if tokens_per_s is None:
            return
        self._starts.append(end - fresh_s)
        self._ends.append(end)
        self._rates.append(tokens_per_s)
        self._tokens.append((self._tokens[-1] if self._tokens else 0.0) + fresh_s * tokens_per_s)
        self._seconds.append((self._seconds[-1] if self._seconds else 0.0) + fresh_s)
        gone = bisect_right(self._ends, end - self._span_s)
        if gone > _MANY:
            # The last of them stays: its sums are what later ones are told from.
            for column in (self._starts, self._ends, self._rates, self._tokens, self._seconds):
                del column[: gone - 1]

    def between(self, since: datetime, until: datetime) -> tuple[float, float]:
        """(tokens, seconds of it that were measured)."""
        (tokens, seconds), (before, unseen) = self._up_to(until.timestamp()), self._up_to(since.timestamp())
        return tokens - before, seconds - unseen

    def _up_to(self, at: float) -> tuple[float, float]:
        after = bisect_right(self._ends, at)
        tokens, seconds = (self._tokens[after - 1], self._seconds[after - 1]) if after else self._before_all()
        if after < len(self._ends) and self._starts[after] < at:
            part_s = at - self._starts[after]
            return tokens + part_s * self._rates[after], seconds + part_s
        return tokens, seconds

    def _before_all(self) -> tuple[float, float]:
        """Sums before the first window that is kept."""
        if not self._ends:
            return 0.0, 0.0
        first_s = self._ends[0] - self._starts[0]
        return self._tokens[0] - first_s * self._rates[0], self._seconds[0] - first_s


@dataclass(frozen=True, slots=True)
class Stretch:
    """From `since` until the stretch after it: settings each of which some nodes may have run under."""

    since: datetime
    settings: tuple[EngineSettings, ...]


def spent_ratio(
    newest_first: Sequence[Stretch],
    policy: Policy,
    nodes: Sequence[NodeReading],
    now: datetime,
    book: TokenBook | None = None,
) -> float | None:
    """Loss of an average answer token over the policy's `average_over_s`; None without such a budget. book: of the pool's tokens
    over the same span; without one, all time counts alike.

    While several settings may have been in force, as in a rollout, the one that loses most counts: too much rather than too
    little. Time that was not measured counts as the average of what was.
    """
    if policy.quality.average_loss_ratio is None:
        return None
    known = tuple(NodeFacts(node.id, node.name, ready=True, capabilities=node.capabilities) for node in nodes)
    begin = now - timedelta(seconds=policy.quality.average_over_s)
    edges, losses = [now], list[float]()
    for stretch in newest_first:
        if edges[-1] <= begin:
            break
        edges.append(min(max(stretch.since, begin), edges[-1]))
        losses.append(max(loss_of(settings, policy, known) for settings in stretch.settings))
    if edges[-1] > begin:  # the pool is younger
        edges.append(begin)
        losses.append(0.0)
    weights = _weights(edges, book)
    return sum(loss * weight for loss, weight in zip(losses, weights, strict=True)) / sum(weights)


def _weights(newest_first: Sequence[datetime], book: TokenBook | None) -> list[float]:
    """Of the stretches between these moments: tokens, or seconds where none are known."""
    stretches = [(until, since, (until - since).total_seconds()) for until, since in pairwise(newest_first)]
    if book is not None:
        tokens, seconds = book.between(newest_first[-1], newest_first[0])
        if tokens > 0 and seconds > 0:
            mean, found = tokens / seconds, list[float]()
            for until, since, long_s in stretches:
                own, measured_s = book.between(since, until)
                found.append(own + mean * max(0.0, long_s - measured_s))
            return found
    return [long_s for *_, long_s in stretches]


def book_of(span_s: float, windows: Iterable[tuple[datetime, float, float | None]]) -> TokenBook:
    """windows: end, seconds and tokens per second of each, oldest first."""
    book = TokenBook(span_s)
    for window in windows:
        book.push(*window)
    return book
