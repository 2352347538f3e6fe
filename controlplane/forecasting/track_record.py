"""The forecasts of one pool's load that wait for their truth, and the merit that those behind them have made.

Pure but for what it remembers: the controller, the replay benchmark and tests feed the same.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from controlplane.forecasting.forecaster import Forecast
from controlplane.forecasting.last_value import LastValue
from controlplane.forecasting.merit import MOST_RPS, Merit, Said, judged, scored
from controlplane.forecasting.planning import lasting_rps, planned_rps
from controlplane.forecasting.selection import select_forecast
from controlplane.forecasting.series import series_of
from controlplane.telemetry.observation import Observation

# A threat that comes half a horizon late was one.
SLACK = 0.5
# Of the windows of a horizon, the share that must have been measured for it to be scored.
_KNOWN = 0.5
_LOAD = "offered_rps"


def newest_forecast(history: Sequence[Observation], horizon_s: float) -> Forecast | None:
    """The newest load, repeated, with the band of its own past misses; None where the newest windows (oldest first) know none."""
    series = series_of(history, _LOAD)
    if series is None:
        return None
    return select_forecast(series, max(1, math.ceil(horizon_s / series.step_s)), (LastValue(),))


@dataclass(frozen=True, slots=True)
class _Promise:
    made_at: datetime
    until: datetime
    step_s: float
    forecast: Said
    newest: Said


@dataclass(frozen=True, slots=True)
class _Fear:
    since: datetime
    until: datetime
    rps: float


@dataclass(slots=True)
class TrackRecord:
    """Calls come in the order of time: `came` with each window, then `made`; `feared` where only the forecast saw a threat."""

    merit: Merit = field(default_factory=Merit)
    promises: deque[_Promise] = field(default_factory=deque)
    fear: _Fear | None = None
    seen: deque[tuple[datetime, float]] = field(default_factory=deque)

    def came(self, at: datetime, rate: float | None) -> None:
        """The load of the window that ends at `at`, requests/s; None where it was not measured. What no load can be is none."""
        if rate is not None and 0 <= rate < MOST_RPS:
            self.seen.append((at, rate))
        while self.promises and self.promises[0].until - timedelta(seconds=self.promises[0].step_s / 2) <= at:
            self._score(self.promises.popleft())
        self._judge(at)
        oldest = min([each.made_at for each in self.promises] + ([self.fear.since] if self.fear else []), default=at)
        while self.seen and self.seen[0][0] < oldest:
            self.seen.popleft()

    def made(self, forecast: Forecast, newest: Forecast, window_s: float) -> None:
        """What both said at the same moment of the same horizon. window_s: of the windows that the load was counted in."""
        until, now = newest.points[-1].at, newest.points[0].q50
        foreseen, repeated = (_said(each, window_s, now) for each in (forecast, newest))
        if all(0 <= value < MOST_RPS for value in (repeated.planned, repeated.q50, repeated.q90)):
            self.promises.append(_Promise(newest.made_at, until, newest.step_s, foreseen, repeated))

    def feared(self, at: datetime, rps: float, horizon_s: float) -> None:
        """Only the forecast sees a threat: the load would reach `rps` within the horizon. One at a time is judged."""
        if self.fear is None:
            self.fear = _Fear(at, at + timedelta(seconds=(1 + SLACK) * horizon_s), rps)

    def _score(self, promise: _Promise) -> None:
        """Not measured is no miss: a horizon of which too little is known, or not its end, is not scored."""
        half = timedelta(seconds=promise.step_s / 2)
        known = self._between(promise.made_at, promise.until + half)
        wanted = max(1, round((promise.until - promise.made_at).total_seconds() / promise.step_s))
        if not known or len(known) < _KNOWN * wanted or known[-1][0] < promise.until - half:
            return
        rates = [rate for _, rate in known]
        self.merit = scored(self.merit, promise.forecast, promise.newest, lasted=lasting_rps(rates), at_end=rates[-1])

    def _judge(self, at: datetime) -> None:
        fear = self.fear
        if fear is None or at < fear.until:
            return
        self.fear = None
        rates = [rate for _, rate in self._between(fear.since, fear.until)]
        if rates:
            self.merit = judged(self.merit, right=lasting_rps(rates) >= fear.rps)

    def _between(self, since: datetime, until: datetime) -> list[tuple[datetime, float]]:
        return [(at, rate) for at, rate in self.seen if since < at <= until]


def _said(forecast: Forecast, window_s: float, now_rps: float) -> Said:
    last = forecast.points[-1]
    if not all(math.isfinite(value) for point in forecast.points for value in (point.q10, point.q50, point.q90)):
        return Said(math.nan, math.nan, math.nan)
    return Said(planned_rps(forecast, window_s, now_rps), last.q50, last.q90)
