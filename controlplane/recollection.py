"""What a controller remembers from tick to tick of the pools that it leads without a break, so that it need not read it again.

In another epoch somebody else may have written: what is remembered of one holds in that one alone.
"""

from collections.abc import Iterable
from datetime import datetime

from controlplane.decisions import service as decisions
from controlplane.telemetry.observation import Observation


class Past:
    """The windows that this process saved itself, so that it need not read eighty of each pool at every tick.

    They are those in SQL for as long as it leads the pool without a break: in another epoch somebody else may have written.
    """

    def __init__(self) -> None:
        self._of: dict[str, tuple[int, list[Observation]]] = {}

    def before(self, pool_id: str, epoch: int, since: datetime, at: datetime) -> list[Observation] | None:
        """Those that end in (since, at), oldest first; None where they have to be read."""
        of_epoch, windows = self._of.get(pool_id, (None, []))
        if of_epoch != epoch or not windows:
            return None
        return [seen for seen in windows if since < seen.window_end < at]

    def remember(self, pool_id: str, epoch: int, windows: list[Observation]) -> None:
        known = self._of.get(pool_id)
        if known is not None and known[0] == epoch and known[1] and known[1][-1].window_end >= windows[-1].window_end:
            return  # the same window again: the first one stands
        self._of[pool_id] = (epoch, windows)

    def forget(self, pool_id: str) -> None:
        self._of.pop(pool_id, None)

    def forget_all_but(self, pool_ids: set[str]) -> None:
        for pool_id in [pool_id for pool_id in self._of if pool_id not in pool_ids]:
            del self._of[pool_id]


class Ledgers:
    """What was served in each pool's burn window, for as long as this process leads the pool without a break."""

    def __init__(self) -> None:
        self._of: dict[str, tuple[tuple[int, float], decisions.Ledger]] = {}

    def has(self, pool_id: str, epoch: int, span_s: float) -> bool:
        return pool_id in self._of and self._of[pool_id][0] == (epoch, span_s)

    def begin(self, pool_id: str, epoch: int, span_s: float, windows: Iterable[Observation]) -> None:
        """windows: all of the span, oldest first."""
        ledger = decisions.Ledger(span_s)
        for seen in windows:
            ledger.push(seen)
        self._of[pool_id] = ((epoch, span_s), ledger)

    def served(self, pool_id: str, seen: Observation) -> decisions.Tally | None:
        """With the newest window."""
        _, ledger = self._of.get(pool_id, (None, None))
        if ledger is None:
            return None
        ledger.push(seen)
        return ledger.total(seen.window_end)

    def forget(self, pool_id: str) -> None:
        self._of.pop(pool_id, None)

    def forget_all_but(self, pool_ids: set[str]) -> None:
        for pool_id in [pool_id for pool_id in self._of if pool_id not in pool_ids]:
            del self._of[pool_id]
