"""Thresholds for a service never seen: not a level of the score, which does not carry over, but how often a warning may come.

A model's scores lie higher on one service than on another, so a level that suits some is all or nothing elsewhere. Warnings for
each spike differ less. How many there may be is chosen on services that the scoring model was not trained on; how many spikes a
day the new one has is taken from its first day (which is not scored) and from the others, since a day is short; and the score is
held against the level that would have kept that pace so far.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from controlplane.forecasting.spikes.matching import NOTHING, Verdict, judge, raise_warnings
from controlplane.forecasting.spikes.thresholds import PAGE_ACTIONABLE, PAGE_PRECISION, Scored, Setting
from controlplane.forecasting.spikes.trailing import Floats
from controlplane.forecasting.spikes.truth import Bools, Truth

# Warnings for each spike that is to be expected. Fewer than one leave spikes without: where few spikes decide, F1 may ask for
# that, and on the next service hardly any is foreseen. A page may be as rare as it must.
PACES = {Setting.WATCH: (1.0, 1.25, 1.5, 2.0, 3.0), Setting.PAGE: (0.25, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0)}
_PRIOR_DAYS = 0.5  # what other services say of the number of spikes counts as much as half a day of its own
_DAY_S, _EVERY_S = 86400.0, 43200.0
_LEVELS = 80
# Fewer spikes than this say nothing of a service's best pace.
_MIN_SPIKES = 10


def paced(scores: Floats, blocked: Bools, step_s: float, start: int, per_day: float) -> Floats:
    """[N] score minus the level that would have kept the pace on all windows before, set anew twice a day; -inf before `start`.

    At 0 and above a warning is due. Of window t only windows before it, and t itself, have a say.
    """
    out = np.full(len(scores), -np.inf)
    every = max(1, round(_EVERY_S / step_s))
    for begin in range(start, len(scores), every):
        level = _level(scores[:begin], blocked[:begin], step_s, per_day)
        out[begin : begin + every] = scores[begin : begin + every] - level
    return out


@dataclass(frozen=True, slots=True)
class Pace:
    """`warnings_per_spike` at `usual` spikes a day, as the services had on which it was chosen."""

    warnings_per_spike: float
    usual: float

    def per_day(self, truth: Truth, start: int, step_s: float) -> float:
        """Warnings a day for a service of which the windows before `start` are known."""
        days = start * step_s / _DAY_S
        had = int((truth.onsets < start).sum())
        return self.warnings_per_spike * (had + self.usual * _PRIOR_DAYS) / (days + _PRIOR_DAYS)


def choose_pace(services: Sequence[Scored], setting: Setting) -> Pace | None:
    """What served services never seen best; None where nothing did.

    watch: by the harmonic mean of F1, each service alike: the next one may be like any of them, also the one served worst. page:
    most recall with precision >= 0.85 over all of them.
    """
    known = [each for each in services if len(each.truth.spikes) >= _MIN_SPIKES]
    if not known:
        return None
    usual = float(np.mean([len(each.truth.spikes) / (len(each.scores) * each.step_s / _DAY_S) for each in known]))
    paces = [Pace(each, usual) for each in PACES[setting]]
    verdicts = {pace: [judged(each, pace) for each in known] for pace in paces}
    if setting is Setting.WATCH:
        merit = {pace: _harmonic([each.f1 for each in found]) for pace, found in verdicts.items()}
    else:
        merit = {pace: _page(sum(found, NOTHING)) for pace, found in verdicts.items()}
    best = max(paces, key=lambda pace: merit[pace])
    return best if merit[best] > 1e-3 else None


def first_scored(length: int, step_s: float) -> int:
    """A day gives the first level; of a service that is shorter than two days, a third."""
    return min(round(_DAY_S / step_s), length // 3)


def judged(service: Scored, pace: Pace) -> Verdict:
    """How that pace would have done, from the second day on."""
    count, step_s = len(service.scores), service.step_s
    start = first_scored(count, step_s)
    scores = np.where(np.isfinite(service.scores), service.scores, -np.inf)
    due = paced(scores, service.truth.blocked, step_s, start, pace.per_day(service.truth, start, step_s))
    return judge(raise_warnings(due, 0.0, service.truth.blocked, step_s), service.truth, start, count, step_s)


def _harmonic(values: Sequence[float]) -> float:
    return len(values) / sum(1.0 / max(value, 1e-6) for value in values)


def _page(total: Verdict) -> float:
    fits = total.actionable >= PAGE_ACTIONABLE and total.precision >= PAGE_PRECISION
    return total.recall if fits else 0.0


def _level(scores: Floats, blocked: Bools, step_s: float, per_day: float) -> float:
    """The lowest level whose warnings come no oftener than that; infinite while nothing is known."""
    known = scores[~blocked & np.isfinite(scores)]
    if not len(known):
        return float("inf")
    levels = np.unique(np.quantile(known, 1 - np.geomspace(5e-4, 0.3, _LEVELS)))
    most = per_day * len(scores) * step_s / _DAY_S
    low, high = 0, len(levels) - 1
    while low < high:  # warnings grow rarer as the level rises, but for chance in the cool-downs
        middle = (low + high) // 2
        if len(raise_warnings(scores, float(levels[middle]), blocked, step_s)) <= most:
            high = middle
        else:
            low = middle + 1
    return float(levels[low])
