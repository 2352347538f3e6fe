"""How fast a pool spends its error budget: what of the last hour missed the objectives, over what may miss them (docs/adr/0042).

Source: The Site Reliability Workbook (2018), chapter 5, "Alerting on SLOs": burn rate = share of bad events in a window over the
share that the objective allows; at 1 the budget lasts exactly as long as it should. We depart in one thing: a budget is worth one
request at least, so that on little traffic a single unlucky one never burns faster than 1.
"""

from dataclasses import astuple, dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from math import ceil

from controlplane.decisions.policy import Policy, Slo
from controlplane.telemetry.observation import Observation

# Of the window, so much must be known: less says too little of the rest.
LEAST_KNOWN = 0.5
# The policy's limit holds; when the rate is down to this share of it, people are told that it is over.
RECOVERED = 0.5
_MINUTE_S = 60


class Indicator(StrEnum):
    """What is held against a budget of its own."""

    FIRST_TOKENS = "first_tokens"
    GAPS = "gaps"
    ERRORS = "errors"


@dataclass(frozen=True, slots=True)
class Tally:
    """What was counted in some windows. known_s: how long those that are known last together.

    first_tokens: requests that got theirs or were refused (429); late: those of them that got it later than the objective, or
    never. gaps: between tokens; long_gaps: those over the objective. answers: requests that ended, in a server error or not.
    """

    known_s: float = 0.0
    first_tokens: float = 0.0
    late: float = 0.0
    gaps: float = 0.0
    long_gaps: float = 0.0
    answers: float = 0.0
    errors: float = 0.0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True, slots=True)
class Burn:
    """rate: of the indicator that burns fastest, `worst`; None where too little is known. bad_ratio: its share of bad events."""

    rate: float | None
    worst: Indicator | None
    bad_ratio: float
    known_ratio: float
    window_s: float
    limit: float | None

    @property
    def freezes(self) -> bool:
        """Whether the policy wants nothing changed now but what protects."""
        return self.rate is not None and self.limit is not None and self.rate > self.limit

    @property
    def is_over(self) -> bool:
        """Whether it burns so slowly that people are told that it no longer does: well below what freezes."""
        return self.limit is None or (self.rate is not None and self.rate <= RECOVERED * self.limit)


def tally_of(seen: Observation) -> Tally:
    """What one window counts: nothing at all where it is missing or stale, and where it was kept before slowness was counted."""
    counted = seen.ttft_count is not None or seen.ttft_p95_s is None
    if not seen.usable or not counted:
        return Tally()
    refused, errors = seen.rejected or 0.0, seen.errors or 0.0
    return Tally(
        known_s=seen.window_s,
        first_tokens=(seen.ttft_count or 0.0) + refused,
        late=(seen.ttft_slow or 0.0) + refused,
        gaps=seen.itl_count or 0.0,
        long_gaps=seen.itl_slow or 0.0,
        answers=(seen.requests or 0.0) + errors,
        errors=errors,
    )


def burn_of(tally: Tally | None, policy: Policy) -> Burn:
    """How fast what was counted burns the budget of `policy`. tally: of its `burn_window_s`; None where nobody counted."""
    rails, counted = policy.guardrails, tally or Tally()
    known_ratio = min(counted.known_s / rails.burn_window_s, 1.0)
    if known_ratio < LEAST_KNOWN:
        return Burn(None, None, 0.0, round(known_ratio, 4), rails.burn_window_s, rails.max_burn_rate)
    rates = {name: _rate(counted, name, policy.slo) for name in Indicator}
    worst = max(Indicator, key=lambda name: rates[name])
    bad, total, _ = _events(counted, worst)
    return Burn(
        rate=round(rates[worst], 4),
        worst=worst if rates[worst] > 0 else None,
        bad_ratio=round(bad / total, 6) if total > 0 else 0.0,
        known_ratio=round(known_ratio, 4),
        window_s=rails.burn_window_s,
        limit=rails.max_burn_rate,
    )


def _rate(tally: Tally, name: Indicator, slo: Slo) -> float:
    bad, total, of_request = _events(tally, name)
    allowed = slo.error_rate if name is Indicator.ERRORS else 1 - slo.attainment
    return bad / max(allowed * total, of_request)


def _events(tally: Tally, name: Indicator) -> tuple[float, float, float]:
    """(bad, all, how many of them a request makes)."""
    match name:
        case Indicator.FIRST_TOKENS:
            return tally.late, tally.first_tokens, 1.0
        case Indicator.ERRORS:
            return tally.errors, tally.answers, 1.0
        case Indicator.GAPS:
            return tally.long_gaps, tally.gaps, max(tally.gaps / max(tally.first_tokens, 1.0), 1.0)


class Ledger:
    """A pool's counts of the last `span_s`, to the minute. Windows are fed in order of time; one that is older, or fed twice,
    changes nothing."""

    def __init__(self, span_s: float) -> None:
        self._span = timedelta(seconds=span_s)
        self._minutes: dict[int, list[float]] = {}
        self._newest: datetime | None = None

    def push(self, seen: Observation) -> None:
        if self._newest is not None and seen.window_end <= self._newest:
            return
        # Where windows overlap, only what lies after the one before is new.
        since_s = seen.window_s if self._newest is None else (seen.window_end - self._newest).total_seconds()
        fresh = min(since_s / seen.window_s, 1.0)
        self._newest = seen.window_end
        minute = ceil(seen.window_end.timestamp() / _MINUTE_S)
        counted = [fresh * value for value in astuple(tally_of(seen))]
        before = self._minutes.get(minute)
        self._minutes[minute] = counted if before is None else [a + b for a, b in zip(before, counted, strict=True)]

    def total(self, now: datetime) -> Tally:
        """Of the minutes that end in (now - span, now], and of the one that has begun."""
        oldest = (now - self._span).timestamp() / _MINUTE_S
        for minute in [minute for minute in self._minutes if minute <= oldest]:
            del self._minutes[minute]
        if not self._minutes:
            return Tally()
        return Tally(*(round(sum(column), 3) for column in zip(*self._minutes.values(), strict=True)))
