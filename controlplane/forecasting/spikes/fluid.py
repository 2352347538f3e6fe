"""The fluid model: load ahead against the capacity that is coming, integrated to a backlog. It needs no training.

Capacity follows the replicas in service now and those already asked for, which arrive a start-up delay after the asking. Load
follows a damped trend. The backlog that results, in seconds of work, is the time that a new request would wait.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from controlplane.forecasting.spikes import trailing
from controlplane.forecasting.spikes.trailing import Floats

START_S = 240.0
HORIZON_S = 600.0
_STEP_S = 30.0
# Half-lives of level and trend, and how fast the trend fades: damped Holt with weights that suit loads of minutes.
_LEVEL_S, _TREND_S, _FADE_S = 45.0, 180.0, 300.0


@dataclass(frozen=True, slots=True)
class Outlook:
    """[N] each, of the next 60-600 s on the expected path of the load.

    backlog_s: largest backlog in seconds of the whole pool's work; breach_s: seconds until the backlog passes one second,
    at most the horizon; utilisation: largest load / capacity; coming: replicas on their way / in service; now: load level
    / capacity now.
    """

    backlog_s: Floats
    breach_s: Floats
    utilisation: Floats
    coming: Floats
    now: Floats


def capacity_ahead(
    replicas: Floats, desired: Floats, step_s: float, ahead_s: float, start_s: float = START_S
) -> Floats:
    """[N] replicas in service `ahead_s` from each window, of what was known then.

    A replica that was asked for `start_s - ahead_s` ago or earlier is there by then; none is assumed that nobody has asked for.
    """
    asked = trailing.lag(desired, max(0, round((start_s - ahead_s) / step_s)))
    asked = np.where(np.isfinite(asked), asked, replicas)
    # What was asked for then and is still wanted now will have come; what is wanted less leaves at once.
    coming = np.where(np.isfinite(desired), np.minimum(asked, desired), replicas)
    return np.fmax(coming, np.fmin(replicas, np.where(np.isfinite(desired), desired, replicas)))


def outlook(
    load: Floats, replicas: Floats, desired: Floats, queued_s: Floats, step_s: float, *, lift: float = 1.0
) -> Outlook:
    """load: [N] replicas asked for in each window; queued_s: [N] seconds of work that wait now; `lift` scales the load path."""
    return outlooks(load, replicas, desired, queued_s, step_s, (lift,))[0]


def outlooks(
    load: Floats, replicas: Floats, desired: Floats, queued_s: Floats, step_s: float, lifts: Sequence[float]
) -> list[Outlook]:
    """`outlook` for several lifts, which share the load path and the capacity."""
    level = trailing.smoothed(load, _LEVEL_S / step_s)
    slow = trailing.smoothed(load, _TREND_S / step_s)
    # Two smoothings of a ramp lag by their mean ages; the difference over the difference of ages is the slope.
    slope = (level - slow) / ((_TREND_S - _LEVEL_S) / np.log(2))
    lift = np.asarray(lifts)[:, None]  # [L, 1]
    shape = (len(lifts), len(load))
    backlog = np.broadcast_to(trailing.zeroed(queued_s), shape)
    worst, breach = np.zeros(shape), np.full(shape, HORIZON_S)
    utilisation = np.zeros(shape)
    capacity = np.maximum(np.where(np.isfinite(replicas), replicas, 1.0), 1e-9)
    floor = 0.2 * level
    for ahead in np.arange(_STEP_S, HORIZON_S + 1, _STEP_S):
        capacity = np.maximum(capacity_ahead(replicas, desired, step_s, ahead), 1e-9)
        path = np.maximum(level + slope * _FADE_S * (1 - np.exp(-ahead / _FADE_S)), floor) * lift
        ratio = trailing.zeroed(path / capacity)
        backlog = np.maximum(backlog + (ratio - 1.0) * _STEP_S, 0.0)
        breach = np.where((backlog > 1.0) & (breach >= HORIZON_S), ahead, breach)
        if ahead >= 60:
            worst = np.maximum(worst, backlog)
            utilisation = np.maximum(utilisation, ratio)
    with np.errstate(invalid="ignore", divide="ignore"):
        now = trailing.zeroed(level / replicas)
        last = capacity / replicas
        coming = np.where(np.isfinite(last), last, 1.0)
    return [Outlook(worst[i], breach[i], utilisation[i], coming, now) for i in range(len(lifts))]
