"""The last two hours of each pool as arrays, so that a tick turns one window into numbers and not five hundred."""

from collections import deque
from collections.abc import Iterable
from datetime import datetime, timedelta

import numpy as np

from controlplane.forecasting.series import Series
from controlplane.forecasting.spikes.costs import Costs
from controlplane.forecasting.spikes.history import History
from controlplane.forecasting.spikes.telemetry import FACTS, LIVE_S, costs_of_steps, facts_of
from controlplane.forecasting.spikes.trailing import Floats
from controlplane.telemetry.observation import Observation

_REFIT_EVERY = 40  # windows between two fits of what requests cost


class Lookback:
    """Of one pool. Not thread-safe."""

    def __init__(self, step_s: float) -> None:
        self._step_s = step_s
        self._rows: deque[tuple[datetime, Floats, Observation]] = deque()
        self._costs: Costs | None = None
        self._until_refit = 0

    @property
    def end(self) -> datetime | None:
        return self._rows[-1][0] if self._rows else None

    def push(self, windows: Iterable[Observation]) -> None:
        """Windows in the order of time; what is not newer than the newest known one is passed over."""
        for seen in windows:
            if self._rows and seen.window_end <= self._rows[-1][0]:
                continue
            facts = facts_of(seen, self._step_s)
            row = np.asarray([getattr(facts, name) for name in FACTS])
            self._rows.append((seen.window_end, row, seen))
        if not self._rows:
            return
        oldest = self._rows[-1][0] - timedelta(seconds=LIVE_S)
        while self._rows[0][0] <= oldest:
            self._rows.popleft()

    def history(self) -> History | None:
        """On an even grid that ends with the newest window; holes are NaN. None without two windows."""
        if len(self._rows) < 2:
            return None
        end = self._rows[-1][0]
        slots = [round((end - at).total_seconds() / self._step_s) for at, _, _ in self._rows]
        count = slots[0] + 1
        table = np.full((count, len(FACTS)), np.nan)
        table[[count - 1 - slot for slot in slots]] = np.stack([row for _, row, _ in self._rows])
        return History(self._step_s, *(np.ascontiguousarray(column) for column in table.T))

    def minutes(self) -> Series | None:
        """Offered requests per second by the minute, newest minute whole; from the newest stretch without a hole of a minute."""
        past = self.history()
        if past is None or self.end is None:
            return None
        per = max(1, round(60.0 / self._step_s))
        count = len(past) // per
        if count == 0:
            return None
        table = past.arrivals[-count * per :].reshape(count, per) / self._step_s
        known = np.isfinite(table)
        empty = np.flatnonzero(~known.any(axis=1))
        first = int(empty[-1]) + 1 if len(empty) else 0
        if first == count:
            return None
        sums = np.where(known, table, 0.0).sum(axis=1)[first:] / known.sum(axis=1)[first:]
        return Series("offered_rps", self.end, per * self._step_s, tuple(sums.tolist()))

    def costs(self, full_rows: float) -> Costs | None:
        """What requests cost here, by measured steps; None while these are too few or too alike."""
        if self._until_refit == 0:
            self._costs = costs_of_steps([seen for _, _, seen in self._rows], full_rows) or self._costs
            self._until_refit = _REFIT_EVERY
        self._until_refit -= 1
        return self._costs
