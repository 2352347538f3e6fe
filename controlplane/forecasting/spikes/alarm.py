"""When a probability becomes a warning, and when a warning ends: thresholds, cool-down, the budget of a day, what came. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import numpy as np

from controlplane.forecasting.spikes.matching import COOLDOWN_S, FAR_S, NEAR_S
from controlplane.forecasting.spikes.thresholds import Setting
from controlplane.forecasting.spikes.truth import MERGE_S, SPIKE_S, Truth

DAY = timedelta(days=1)
# forecasting design 2.5: people read so many a day. A page has a part of it that watches cannot use up.
BUDGET_PER_DAY = 24
PAGE_RESERVE = 6
# A spike that begins at the far end is known as one after two minutes more; one window for what comes late.
_KNOWN_AFTER_S = FAR_S + SPIKE_S + 15.0
# With less than this share of the windows after it measured, nobody knows whether a warning was right.
_MEASURED = 0.5


class Verdict(StrEnum):
    """How a warning turned out. late: right, but less than 60 s ahead. unknown: the time after it was not measured."""

    OPEN = "open"
    RIGHT = "right"
    LATE = "late"
    NEUTRAL = "neutral"
    FALSE = "false"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Raised:
    """A warning that stands in the history: when, at which setting, and what is known of it by now."""

    id: int
    setting: Setting
    at: datetime
    verdict: Verdict
    onset_at: datetime | None
    ended: bool


@dataclass(frozen=True, slots=True)
class Settled:
    """What a warning has turned out to be; `ended`: nothing more is to be said of it."""

    verdict: Verdict
    onset_at: datetime | None
    ended: bool


@dataclass(frozen=True, slots=True)
class Spike:
    """A spike within the known windows. `until`: None while it lasts."""

    onset_at: datetime
    until: datetime | None


def due(
    probability: float,
    blocked: bool,
    thresholds: Mapping[Setting, float | None],
    past: Sequence[Raised],
    now: datetime,
    budget_per_day: int = BUDGET_PER_DAY,
) -> list[Setting]:
    """Settings at which a warning is to be raised now. past: those of the last day and those still open."""
    if blocked or not np.isfinite(probability):
        return []
    found = []
    today = sum(now - each.at < DAY for each in past)
    reserve = min(PAGE_RESERVE, budget_per_day // 4)
    for setting, room in ((Setting.PAGE, budget_per_day), (Setting.WATCH, budget_per_day - reserve)):
        threshold = thresholds.get(setting)
        if threshold is None or probability < threshold or today >= room:
            continue
        newest = max((each.at for each in past if each.setting is setting), default=None)
        if newest is None or now - newest >= timedelta(seconds=COOLDOWN_S):
            found.append(setting)
    return found


def spikes_of(truth: Truth, end: datetime, step_s: float) -> list[Spike]:
    """Spikes whose onset lies within the windows that end at `end`; one that was under way at their beginning is not known."""
    count = len(truth.blocked)
    found = []
    for start, stop in truth.spikes:
        if start == 0:
            continue
        over = (count - stop) * step_s >= MERGE_S
        until = end - timedelta(seconds=(count - stop) * step_s)
        found.append(Spike(end - timedelta(seconds=(count - 1 - start) * step_s), until if over else None))
    return found


def settle(warning: Raised, truth: Truth, measured: Sequence[bool], end: datetime, step_s: float) -> Settled | None:
    """What has become of an open warning by `end`, by the benchmark's rules (matching.py); None while nothing new is known.

    measured: [N] whether the window is known at all, as `truth.blocked`.
    """
    count = len(truth.blocked)
    at = count - 1 - round((end - warning.at).total_seconds() / step_s)
    if at < 0:  # the windows do not reach back to it: a long outage of ours
        return Settled(Verdict.UNKNOWN, None, ended=True)
    if warning.verdict in {Verdict.RIGHT, Verdict.LATE}:
        spike = next((each for each in spikes_of(truth, end, step_s) if each.onset_at == warning.onset_at), None)
        gone = spike is None or spike.until is not None
        return Settled(warning.verdict, warning.onset_at, ended=True) if gone else None
    ahead = [(start - at) * step_s for start, _ in truth.spikes if start > at]
    if ahead and ahead[0] <= FAR_S:
        onset_at = warning.at + timedelta(seconds=ahead[0])
        verdict = Verdict.RIGHT if ahead[0] >= NEAR_S else Verdict.LATE
        return Settled(verdict, onset_at, ended=False)
    if (end - warning.at).total_seconds() < _KNOWN_AFTER_S:
        return None
    after = measured[at + 1 : at + 1 + round(FAR_S / step_s)]
    if sum(after) < _MEASURED * len(after):
        return Settled(Verdict.UNKNOWN, None, ended=True)
    minor = any(0 < (start - at) * step_s <= FAR_S for start, _ in truth.minor)
    return Settled(Verdict.NEUTRAL if minor else Verdict.FALSE, None, ended=True)
