"""Chooses the threshold of each setting from the scores of training data alone, out of fold."""

from collections.abc import Sequence
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
# What is chosen for its precision keeps less of it afterwards: we aim higher where that can be had. On the largest
# development trace, thresholds chosen on two thirds of the days for 0.90 kept 0.90 on the rest, those chosen for 0.85 0.83.
_PAGE_AIM = 0.90
_CANDIDATES = 160
# Differences of F1 that are far within chance (the interval of one is 0.2 wide).
_TIE = 0.02
# Other services count as so many spikes of this one's own: enough to steady few, too little to outvote many.
_PRIOR_SPIKES = 10.0


class Setting(StrEnum):
    """watch: best F1, and of those as good the one that warns least. page: best recall with precision >= 0.85 and at least 6
    actionable warnings."""

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

    def scaled(self, share: float) -> "_Counts":
        """As if so much of it had been seen."""
        return _Counts(
            self.right * share, self.false * share, self.actionable * share, self.foreseen * share, self.spikes * share
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
    foreign = [scored for scored in pool if scored is not own]
    others_count = sum((_count(scored, grid) for scored in foreign[1:]), _count(foreign[0], grid)) if foreign else None
    own_count = _count(own, grid) if own is not None and own.truth.spikes else None
    merit = (_page_merit if setting is Setting.PAGE else _watch_merit)(own_count, others_count)
    if not merit.max() > 0:
        return None
    if setting is Setting.PAGE:
        return float(grid[int(np.argmax(merit))])
    # Of thresholds that are as good as the best, the one that warns least.
    return float(grid[np.flatnonzero(merit >= merit.max() - _TIE)[-1]])


def _watch_merit(own: _Counts | None, others: _Counts | None) -> Floats:
    """F1 of its own past and of the others, each by its weight: services differ in how many spikes they have."""
    weight = own.spikes / (own.spikes + _PRIOR_SPIKES) if own else 0.0
    parts = [w * _smooth(_f1(counts)) for counts, w in ((own, weight), (others, 1.0 - weight)) if counts is not None]
    merit: Floats = np.sum(parts, axis=0)
    return merit


def _page_merit(own: _Counts | None, others: _Counts | None) -> Floats:
    """Recall where the precision is high enough. Warnings are counted together, the others' as if they had seen ten spikes, so
    that six lucky ones of few do not make a page."""
    if own is None:
        assert others is not None, "a pool with a spike in it has one side at least"
        total = others
    else:
        share = min(1.0, _PRIOR_SPIKES / others.spikes) if others and others.spikes else 0.0
        total = own + others.scaled(share) if others else own
    precision = _smooth(total.right) / np.maximum(_smooth(total.right + total.false), 1e-9)
    recall = total.foreseen / max(total.spikes, 1e-9)
    merit = np.zeros(len(recall))
    for least in (_PAGE_AIM, PAGE_PRECISION):
        merit = np.where((precision >= least) & (total.actionable >= PAGE_ACTIONABLE), recall, 0.0)
        if merit.max() > 0:
            break
    return merit


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


def _smooth(values: Floats) -> Floats:
    """Mean with the two neighbours on each side: the middle of a good region, not the luckiest point of it."""
    padded = np.pad(values, 2, mode="edge")
    smoothed: Floats = np.convolve(padded, np.full(5, 0.2), mode="valid")
    return smoothed
