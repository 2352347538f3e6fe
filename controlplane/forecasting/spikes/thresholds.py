"""Chooses the threshold of each setting from the scores of training data alone, out of fold."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from controlplane.forecasting.spikes.matching import judge, raise_warnings
from controlplane.forecasting.spikes.trailing import Floats
from controlplane.forecasting.spikes.truth import Truth

# Where thresholds are kept by pool: those for a pool that has none of its own.
ANY_POOL = "*"
PAGE_PRECISION = 0.85
PAGE_ACTIONABLE = 6
_CANDIDATES = 160
# Other services count as so many spikes of this one's own: enough to steady few, too little to outvote many.
_PRIOR_SPIKES = 10.0


class Setting(StrEnum):
    """watch: best F1. page: best recall with precision >= 0.85 and at least 6 actionable warnings."""

    WATCH = "watch"
    PAGE = "page"


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores of one service with its truth; windows without a score are NaN."""

    scores: Floats
    truth: Truth
    step_s: float


@dataclass(frozen=True, slots=True)
class _Counts:
    """Counts at each candidate: [K] each."""

    right: Floats
    false: Floats
    actionable: Floats
    foreseen: Floats
    spikes: float

    def __add__(self, other: "_Counts") -> "_Counts":
        return _Counts(
            self.right + other.right,
            self.false + other.false,
            self.actionable + other.actionable,
            self.foreseen + other.foreseen,
            self.spikes + other.spikes,
        )


def choose(own: Scored | None, others: Sequence[Scored], setting: Setting) -> float | None:
    """The threshold for a service, from its own past (`own`, None for one never seen) and that of other services.

    None: no threshold fulfils the setting, so no warning is raised. With few spikes of its own a service would be tuned to
    chance; the others' merit, worth `_PRIOR_SPIKES` spikes, then leads, and fades as its own grow in number.
    """
    pool = [scored for scored in ([own] if own else []) + list(others) if scored.truth.spikes]
    if not pool:
        return None
    # Candidates of each service's own scores, more of them where scores are high: warnings are rare.
    shares = 1 - np.geomspace(2e-4, 0.3, _CANDIDATES)
    candidates = [np.quantile(known, shares) for scored in pool if len(known := _open(scored))]
    if not candidates:
        return None
    grid = np.unique(np.concatenate(candidates))
    rule: Callable[[_Counts], Floats] = _f1 if setting is Setting.WATCH else _recall_at_precision
    merit = np.zeros(len(grid))
    weight = 0.0
    if own is not None and own.truth.spikes:
        weight = len(own.truth.spikes) / (len(own.truth.spikes) + _PRIOR_SPIKES)
        merit += weight * _smooth(rule(_count(own, grid)))
    foreign = [scored for scored in pool if scored is not own]
    if foreign:
        total = sum((_count(scored, grid) for scored in foreign[1:]), _count(foreign[0], grid))
        merit += (1.0 - weight) * _smooth(rule(total))
    best = int(np.argmax(merit))
    return float(grid[best]) if merit[best] > 0 else None


def _open(scored: Scored) -> Floats:
    scores = scored.scores[~scored.truth.blocked]
    return scores[np.isfinite(scores)]


def _count(scored: Scored, grid: Floats) -> _Counts:
    scored_part = np.flatnonzero(np.isfinite(scored.scores))
    start, stop = (int(scored_part[0]), int(scored_part[-1]) + 1) if len(scored_part) else (0, 0)
    rows = []
    spikes = 0
    for threshold in grid:
        raised = raise_warnings(scored.scores, float(threshold), scored.truth.blocked, scored.step_s)
        verdict = judge(raised, scored.truth, start, stop, scored.step_s)
        rows.append((verdict.right, verdict.false, verdict.actionable, verdict.foreseen))
        spikes = verdict.spikes
    right, false, actionable, foreseen = np.asarray(rows, dtype=float).reshape(-1, 4).T
    return _Counts(right, false, actionable, foreseen, float(spikes))


def _f1(counts: _Counts) -> Floats:
    precision = counts.right / np.maximum(counts.right + counts.false, 1e-9)
    recall = counts.foreseen / max(counts.spikes, 1e-9)
    return 2 * precision * recall / np.maximum(precision + recall, 1e-9)


def _recall_at_precision(counts: _Counts) -> Floats:
    precision = _smooth(counts.right) / np.maximum(_smooth(counts.right + counts.false), 1e-9)
    recall = counts.foreseen / max(counts.spikes, 1e-9)
    return np.where((precision >= PAGE_PRECISION) & (counts.actionable >= PAGE_ACTIONABLE), recall, 0.0)


def _smooth(values: Floats) -> Floats:
    """Mean with the two neighbours on each side: the middle of a good region, not the luckiest point of it."""
    padded = np.pad(values, 2, mode="edge")
    smoothed: Floats = np.convolve(padded, np.full(5, 0.2), mode="valid")
    return smoothed
