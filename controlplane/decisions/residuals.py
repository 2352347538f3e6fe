"""How far the performance model has been off: measured latencies of recent windows over what the model says of their load."""

from collections.abc import Sequence
from dataclasses import dataclass

from controlplane.decisions.performance import PoolModel
from controlplane.forecasting.backtest import quantile
from controlplane.telemetry.observation import Observation

_LEAST_WINDOWS = 8
_AFTER_A_QUEUE = 2


@dataclass(frozen=True, slots=True)
class Spread:
    """10 % and 90 % quantiles of measured over modelled; None where fewer than eight windows tell."""

    ttft: tuple[float, float] | None
    itl: tuple[float, float] | None
    windows: int


def spreads_of(history: Sequence[Observation], model: PoolModel) -> Spread:
    """Over windows that neither end with a queue nor follow one: those who waited in it come in for a while, and a queue has a
    term of its own. The load includes chance, on purpose."""
    queues = [(seen.waiting or 0) >= 1 for seen in history]
    calm = [
        seen
        for place, seen in enumerate(history)
        if seen.usable and seen.offered_rps and not any(queues[max(0, place - _AFTER_A_QUEUE) : place + 1])
    ]
    ttft, itl = [], []
    for seen in calm:
        rate = seen.offered_rps or 0.0
        if seen.ttft_p95_s:
            ttft.append(seen.ttft_p95_s / model.base_ttft_p95_s(rate))
        if seen.itl_p95_s:
            itl.append(seen.itl_p95_s / model.itl_p95_s(rate))
    return Spread(_spread(ttft), _spread(itl), max(len(ttft), len(itl)))


def _spread(ratios: Sequence[float]) -> tuple[float, float] | None:
    if len(ratios) < _LEAST_WINDOWS:
        return None
    return quantile(ratios, 0.1), quantile(ratios, 0.9)
