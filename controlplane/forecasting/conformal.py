"""Bands that hold what they promise while the series drifts: the width of each side follows its own misses.

Source: Gibbs and Candes, "Adaptive Conformal Inference Under Distribution Shift" (2021). They move the level asked of the
residuals; we move the log of a factor on the band's side instead, which also reaches beyond the largest residual of a short past.
After each truth the factor of a side grows by rate * (1 - alpha) when it was beyond that side and shrinks by rate * alpha if not,
so that in the long run a share alpha lies beyond, whatever the series does.
"""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

from controlplane.forecasting.forecaster import Forecast, ForecastPoint

_ALPHA = 0.1  # beyond each side of q10..q90
_RATE = 0.08
_LOG_MAX = math.log(20.0)
_MEMORY = 0.01  # of the coverage that is told: about the last hundred truths
_ANCHORS_S = (60.0, 300.0, 900.0)


@dataclass(slots=True)
class _Side:
    """Log factors of the lower and upper half at one horizon, and the share that was covered of late."""

    low: float = 0.0
    high: float = 0.0
    covered: float = 1.0 - 2 * _ALPHA
    seen: int = 0

    def feed(self, below: bool, above: bool) -> None:
        self.low = _moved(self.low, below)
        self.high = _moved(self.high, above)
        self.covered += _MEMORY * (float(not below and not above) - self.covered)
        self.seen += 1


@dataclass(frozen=True, slots=True)
class _Promise:
    """A band that was told for a moment ahead."""

    at: datetime
    anchor: int
    q10: float
    q90: float


@dataclass(slots=True)
class AdaptiveBands:
    """Of one series: widens and narrows its forecasts, and learns from what came. Calls come in the order of time."""

    sides: list[_Side] = field(default_factory=lambda: [_Side() for _ in _ANCHORS_S])
    open: deque[_Promise] = field(default_factory=deque)

    def came(self, at: datetime, value: float | None, within_s: float) -> None:
        """A truth. Promises for a moment that has passed without one are dropped: not measured is no miss."""
        kept: deque[_Promise] = deque()
        for promise in self.open:
            away_s = (promise.at - at).total_seconds()
            if away_s > within_s:
                kept.append(promise)
            elif away_s >= -within_s and value is not None and math.isfinite(value):
                self.sides[promise.anchor].feed(value < promise.q10, value > promise.q90)
        self.open = kept

    def widened(self, forecast: Forecast) -> Forecast:
        """The forecast with its bands as wide as misses say; its points at the anchors are remembered as promises."""
        points = tuple(self._point(point, (point.at - forecast.made_at).total_seconds()) for point in forecast.points)
        for anchor, horizon_s in enumerate(_ANCHORS_S):
            step = round(horizon_s / forecast.step_s)
            if 1 <= step <= len(points):
                point = points[step - 1]
                self.open.append(_Promise(point.at, anchor, point.q10, point.q90))
        return replace(forecast, points=points)

    def coverage(self) -> dict[str, float]:
        """Share of late truths inside, by horizon in seconds; horizons with few truths are left out."""
        return {
            f"{horizon_s:.0f}": round(side.covered, 4)
            for horizon_s, side in zip(_ANCHORS_S, self.sides, strict=True)
            if side.seen >= 1.0 / _MEMORY
        }

    def _point(self, point: ForecastPoint, ahead_s: float) -> ForecastPoint:
        low, high = (_between(ahead_s, [getattr(side, name) for side in self.sides]) for name in ("low", "high"))
        below, above = (point.q50 - point.q10) * math.exp(low), (point.q90 - point.q50) * math.exp(high)
        return ForecastPoint(point.at, q10=max(0.0, point.q50 - below), q50=point.q50, q90=point.q50 + above)


def stored(bands: AdaptiveBands) -> list[dict[str, Any]]:
    """As plain JSON: what another process needs to go on. Open promises are not among it: they are scored by nobody."""
    return [asdict(side) for side in bands.sides]


def restored(rows: Sequence[Mapping[str, Any]]) -> AdaptiveBands:
    """Raises TypeError or ValueError for what `stored` has not made."""
    if len(rows) != len(_ANCHORS_S):
        raise ValueError(f"{len(rows)} horizons where there are {len(_ANCHORS_S)}")
    return AdaptiveBands(sides=[_Side(**row) for row in rows])


def _moved(log_factor: float, missed: bool) -> float:
    moved = log_factor + _RATE * ((1.0 if missed else 0.0) - _ALPHA)
    return min(max(moved, -_LOG_MAX), _LOG_MAX)


def _between(ahead_s: float, values: Sequence[float]) -> float:
    """On the line between the anchors around it; the nearest one's beyond them."""
    if ahead_s <= _ANCHORS_S[0]:
        return values[0]
    for i in range(1, len(_ANCHORS_S)):
        if ahead_s <= _ANCHORS_S[i]:
            share = (ahead_s - _ANCHORS_S[i - 1]) / (_ANCHORS_S[i] - _ANCHORS_S[i - 1])
            return values[i - 1] + share * (values[i] - values[i - 1])
    return values[-1]
