"""What a controller remembers from tick to tick of the pools that it leads without a break, so that it need not read it again.

In another epoch somebody else may have written: what is remembered of one holds in that one alone.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from sqlalchemy.orm import Session

from controlplane.decisions import service as decisions
from controlplane.decisions.policy import Policy
from controlplane.forecasting.service import HISTORY_S
from controlplane.telemetry import service as telemetry
from controlplane.telemetry.observation import Observation

T = TypeVar("T")


class Recollection:
    """Of each pool the windows, what was served in its burn window, and the tokens of its quality books."""

    def __init__(self) -> None:
        self._past, self._ledgers, self._books = Past(), Ledgers(), Books()

    def history(self, session: Session, pool_id: str, at: datetime, epoch: int, policy: Policy) -> list[Observation]:
        """The pool's windows before `at`, with a ledger of those of its burn window: from memory, or else from SQL."""
        since, span_s = at - timedelta(seconds=HISTORY_S), policy.guardrails.burn_window_s
        history = self._past.before(pool_id, epoch, since, at)
        if history is not None and self._ledgers.has(pool_id, epoch, span_s):
            return history
        first = at - timedelta(seconds=max(HISTORY_S, span_s))
        windows = [seen for seen in telemetry.recent(session, pool_id, first, at) if seen.window_end < at]
        self._ledgers.begin(pool_id, epoch, span_s, windows)
        return [seen for seen in windows if seen.window_end > since]

    def book(
        self, session: Session, pool_id: str, at: datetime, epoch: int, policy: Policy
    ) -> decisions.TokenBook | None:
        """Of the tokens before `at`; None where the policy has no budget of quality."""
        if policy.quality.average_loss_ratio is None:
            self._books.forget(pool_id)
            return None
        span_s = policy.quality.average_over_s
        book = self._books.of(pool_id, epoch, span_s)
        if book is None:
            windows = telemetry.token_rates(session, pool_id, at - timedelta(seconds=span_s), at)
            book = self._books.begin(pool_id, epoch, span_s, decisions.book_of(span_s, windows))
        return book

    def served(self, pool_id: str, seen: Observation) -> decisions.Tally | None:
        """In the burn window, with the newest window."""
        return self._ledgers.served(pool_id, seen)

    def remember(self, pool_id: str, epoch: int, windows: list[Observation]) -> None:
        """windows: as `history`, and the one that was saved now."""
        self._past.remember(pool_id, epoch, windows)
        self._books.push(pool_id, windows[-1])

    def forget(self, pool_id: str) -> None:
        self._past.forget(pool_id)
        self._ledgers.forget(pool_id)
        self._books.forget(pool_id)

    def forget_all_but(self, pool_ids: set[str]) -> None:
        self._past.forget_all_but(pool_ids)
        self._ledgers.forget_all_but(pool_ids)
        self._books.forget_all_but(pool_ids)


class _ByPool(Generic[T]):
    def __init__(self) -> None:
        self._of: dict[str, T] = {}

    def forget(self, pool_id: str) -> None:
        self._of.pop(pool_id, None)

    def forget_all_but(self, pool_ids: set[str]) -> None:
        for pool_id in [pool_id for pool_id in self._of if pool_id not in pool_ids]:
            del self._of[pool_id]


class Books(_ByPool[tuple[tuple[int, float], decisions.TokenBook]]):
    """The tokens of pools that have a budget of quality, for as long as this process leads them without a break."""

    def of(self, pool_id: str, epoch: int, span_s: float) -> decisions.TokenBook | None:
        key, book = self._of.get(pool_id, (None, None))
        return book if key == (epoch, span_s) else None

    def begin(self, pool_id: str, epoch: int, span_s: float, book: decisions.TokenBook) -> decisions.TokenBook:
        self._of[pool_id] = ((epoch, span_s), book)
        return book

    def push(self, pool_id: str, seen: Observation) -> None:
        _, book = self._of.get(pool_id, (None, None))
        if book is not None:
            book.push(seen.window_end, seen.window_s, seen.generation_tokens_per_s if seen.usable else None)


class Past(_ByPool[tuple[int, list[Observation]]]):
    """The windows that this process saved itself, so that it need not read eighty of each pool at every tick.

    They are those in SQL for as long as it leads the pool without a break: in another epoch somebody else may have written.
    """

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


class Ledgers(_ByPool[tuple[tuple[int, float], decisions.Ledger]]):
    """What was served in each pool's burn window, for as long as this process leads the pool without a break."""

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
