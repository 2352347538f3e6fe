"""The fluid projection: offered load against capacity, integrated to a backlog, and from the backlog to latency ahead.

It sees a surge before the latency series does: requests that wait now show in the time to first token only once they are served.
Load paths come from the forecast's quantiles, capacity is varied by the performance model's own error; the share of paths that
break the SLO is the breach probability. It is not calibrated: 0.8 means eight paths in ten, not eight surges in ten.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from statistics import NormalDist
from typing import Protocol

from controlplane.forecasting.backtest import quantile
from controlplane.forecasting.forecaster import Forecast, ForecastPoint

MODEL = "fluid"
# Probability levels of the load paths, each standing for an equal share.
_LEVELS = tuple((2 * i + 1) / 18 for i in range(9))
_Z90 = NormalDist().inv_cdf(0.9)
_MAX_STEPS = 60


class ServiceModel(Protocol):
    """What some settings make of a pool; rates are requests per second over the whole pool, times are seconds."""

    @property
    def capacity_rps(self) -> float: ...

    @property
    def queue_limit(self) -> float:
        """Requests that may wait; beyond it they are refused."""
        ...

    def base_ttft_p95_s(self, rate: float) -> float:
        """Time to first token of a request that need not queue."""
        ...

    def wait_p95_s(self, rate: float, elapsed_s: float) -> float:
        """Queueing through chance alone, `elapsed_s` after an empty queue: long waits need time to build up."""
        ...

    def itl_p95_s(self, rate: float) -> float: ...


@dataclass(frozen=True, slots=True)
class Projection:
    """Latency ahead, and when the SLO would break on the median of the paths that break it (seconds from now)."""

    ttft_p95_s: Forecast
    itl_p95_s: Forecast
    breach_probability: float
    ttft_breach_probability: float
    itl_breach_probability: float
    breach_in_s: float | None


class _Asked:
    """A model that works out each answer once."""

    def __init__(self, model: ServiceModel) -> None:
        self.capacity_rps, self.queue_limit = model.capacity_rps, model.queue_limit
        self.base_ttft_p95_s = cache(model.base_ttft_p95_s)
        self.wait_p95_s = cache(model.wait_p95_s)
        self.itl_p95_s = cache(model.itl_p95_s)


@dataclass(frozen=True, slots=True)
class _Path:
    ttft: list[float]
    itl: list[float]
    ttft_breach_s: float | None
    itl_breach_s: float | None


def project(
    load: Forecast,
    model: ServiceModel,
    *,
    waiting: float,
    window_s: float,
    ttft_slo_s: float,
    itl_slo_s: float,
    capacity_error_ratio: float,
) -> Projection:
    """waiting: requests queued now in the whole pool. window_s: length of the windows that the load was counted in."""
    stride = max(1, math.ceil(len(load.points) / _MAX_STEPS))
    step_s = load.step_s * stride
    points = load.points[stride - 1 :: stride]
    # Paths of one level meet the same rates under each capacity, and a model answers the same for the same rate.
    model = _Asked(model)
    paths = [
        _follow(rates, model, model.capacity_rps * factor, waiting, step_s, ttft_slo_s, itl_slo_s)
        for rates in load_paths(points, window_s)
        for factor in (1 - capacity_error_ratio, 1.0, 1 + capacity_error_ratio)
    ]
    breaches = [
        min(found)
        for path in paths
        if (found := [at for at in (path.ttft_breach_s, path.itl_breach_s) if at is not None])
    ]
    return Projection(
        ttft_p95_s=_bands("ttft_p95_s", load, points, step_s, [path.ttft for path in paths]),
        itl_p95_s=_bands("itl_p95_s", load, points, step_s, [path.itl for path in paths]),
        breach_probability=len(breaches) / len(paths),
        ttft_breach_probability=sum(path.ttft_breach_s is not None for path in paths) / len(paths),
        itl_breach_probability=sum(path.itl_breach_s is not None for path in paths) / len(paths),
        breach_in_s=sorted(breaches)[len(breaches) // 2] if breaches else None,
    )


def load_paths(points: Sequence[ForecastPoint], window_s: float) -> Iterator[list[float]]:
    """One path of the load per probability level, from low to high.

    The forecast's band holds two things: not knowing the load, which lasts, and the chance in counting single arrivals in a short
    window (variance rate / window_s, if they come as Poisson), which averages out. Only the first may push a path up for the
    whole horizon, so the second is taken out of the band here; chance has its own term in `wait_p95_s`.
    """
    for level in _LEVELS:
        z = NormalDist().inv_cdf(level)
        yield [max(0.0, point.q50 + z * _lasting_sd(point, window_s, upper=z > 0)) for point in points]


def lasting_q90(point: ForecastPoint, window_s: float) -> float:
    """The 90 % quantile of the load that lasts: without the chance in counting."""
    return point.q50 + _Z90 * _lasting_sd(point, window_s, upper=True)


def _lasting_sd(point: ForecastPoint, window_s: float, *, upper: bool) -> float:
    side = (point.q90 - point.q50 if upper else point.q50 - point.q10) / _Z90
    return math.sqrt(max(0.0, side * side - point.q50 / window_s))


def _follow(
    rates: Sequence[float],
    model: ServiceModel,
    capacity: float,
    waiting: float,
    step_s: float,
    ttft_slo_s: float,
    itl_slo_s: float,
) -> _Path:
    backlog = waiting
    ttfts: list[float] = []
    itls: list[float] = []
    ttft_breach_s = itl_breach_s = None
    for step, rate in enumerate(rates):
        elapsed_s = (step + 1) * step_s
        backlog = min(max(0.0, backlog + (rate - capacity) * step_s), model.queue_limit)
        # While a backlog is worked off, the engine runs full, whatever arrives.
        served = capacity if backlog > 0 else min(rate, capacity)
        ttft = model.base_ttft_p95_s(served) + backlog / capacity + model.wait_p95_s(rate, elapsed_s)
        itl = model.itl_p95_s(served)
        ttfts.append(ttft)
        itls.append(itl)
        if ttft > ttft_slo_s and ttft_breach_s is None:
            ttft_breach_s = elapsed_s
        if itl > itl_slo_s and itl_breach_s is None:
            itl_breach_s = elapsed_s
    return _Path(ttfts, itls, ttft_breach_s, itl_breach_s)


def _bands(
    metric: str, load: Forecast, points: Sequence[ForecastPoint], step_s: float, paths: Sequence[Sequence[float]]
) -> Forecast:
    found = []
    for step in range(len(points)):
        values = [path[step] for path in paths]
        found.append(
            ForecastPoint(
                at=load.made_at + timedelta(seconds=(step + 1) * step_s),
                q10=quantile(values, 0.1),
                q50=quantile(values, 0.5),
                q90=quantile(values, 0.9),
            )
        )
    return Forecast(metric, load.made_at, step_s, tuple(found), MODEL)
