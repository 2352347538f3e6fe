"""From scores to warnings, and from warnings to precision, recall and lead: the rules, the same for every model."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from controlplane.forecasting.spikes.trailing import Floats
from controlplane.forecasting.spikes.truth import Bools, Truth

NEAR_S = 60.0  # nearer than this a warning is right but too late to act on
FAR_S = 600.0
COOLDOWN_S = 600.0

Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Verdict:
    """How the warnings of one stretch of one trace did; counts add up over stretches."""

    warnings: int
    right: int
    actionable: int
    neutral: int
    false: int
    spikes: int
    foreseen: int
    leads_s: tuple[float, ...]
    days: float

    @property
    def precision(self) -> float:
        """right / (right + false); NaN without a warning that is either."""
        return self.right / (self.right + self.false) if self.right + self.false else float("nan")

    @property
    def strict_precision(self) -> float:
        return self.actionable / self.warnings if self.warnings else float("nan")

    @property
    def recall(self) -> float:
        return self.foreseen / self.spikes if self.spikes else float("nan")

    @property
    def f1(self) -> float:
        if not self.right or not self.foreseen:
            return 0.0
        return 2 * self.precision * self.recall / (self.precision + self.recall)

    @property
    def lead_s(self) -> float:
        """Median over the spikes foreseen, of the first actionable warning of each."""
        return float(np.median(self.leads_s)) if self.leads_s else float("nan")

    @property
    def per_day(self) -> float:
        return self.warnings / self.days if self.days else 0.0

    def __add__(self, other: "Verdict") -> "Verdict":
        return Verdict(
            self.warnings + other.warnings,
            self.right + other.right,
            self.actionable + other.actionable,
            self.neutral + other.neutral,
            self.false + other.false,
            self.spikes + other.spikes,
            self.foreseen + other.foreseen,
            self.leads_s + other.leads_s,
            self.days + other.days,
        )


NOTHING = Verdict(0, 0, 0, 0, 0, 0, 0, (), 0.0)


def raise_warnings(scores: Floats, threshold: float, blocked: Bools, step_s: float = 15.0) -> Indices:
    """Windows in which a warning is raised: score >= threshold, not blocked, and no warning in the 600 s before."""
    cooldown = round(COOLDOWN_S / step_s)
    with np.errstate(invalid="ignore"):
        wanted = np.flatnonzero((scores >= threshold) & ~blocked)
    raised: list[int] = []
    position = 0
    while position < len(wanted):
        raised.append(int(wanted[position]))
        position = int(np.searchsorted(wanted, raised[-1] + cooldown))
    return np.asarray(raised, dtype=np.int64)


def judge(raised: Indices, truth: Truth, start: int, stop: int, step_s: float = 15.0) -> Verdict:
    """Warnings raised in windows [start, stop), against the spikes that begin there."""
    all_raised, raised = raised, raised[(raised >= start) & (raised < stop)]
    onsets = truth.onsets
    minor = np.asarray([begin for begin, _ in truth.minor], dtype=np.int64)
    lead = _next_after(onsets, raised, step_s)
    minor_lead = _next_after(minor, raised, step_s)
    right = lead <= FAR_S
    actionable = right & (lead >= NEAR_S)
    neutral = ~right & (minor_lead <= FAR_S)
    scored = onsets[(onsets >= start) & (onsets < stop)]
    leads = []
    for onset in scored:
        ahead = (onset - all_raised) * step_s
        fitting = ahead[(ahead >= NEAR_S) & (ahead <= FAR_S)]
        if len(fitting):
            leads.append(float(fitting.max()))
    return Verdict(
        warnings=len(raised),
        right=int(right.sum()),
        actionable=int(actionable.sum()),
        neutral=int(neutral.sum()),
        false=int((~right & ~neutral).sum()),
        spikes=len(scored),
        foreseen=len(leads),
        leads_s=tuple(leads),
        days=(stop - start) * step_s / 86400,
    )


def _next_after(events: Indices, at: Indices, step_s: float) -> Floats:
    """Seconds from each of `at` to the first event after it; infinite when there is none."""
    position = np.searchsorted(events, at, side="right")
    ahead = np.full(len(at), np.inf)
    known = position < len(events)
    ahead[known] = (events[position[known]] - at[known]) * step_s
    return ahead
