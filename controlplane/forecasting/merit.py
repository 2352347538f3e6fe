"""Whether forecasts of a pool's load have earned the right to act there: what planning on them has cost, held against planning on
the newest value alone, and how often a threat that only they saw was one.

A handful of sums per pool, forgotten at an even rate, so that the verdict is of late and outlives the process that made it.
"""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from pydantic import TypeAdapter

from controlplane.forecasting.backtest import pinball

# Decisions plan at the 90 % quantile. That is the cheapest plan exactly where a request/s too few costs nine times one too many
# (critical ratio of the newsvendor, 0.9 = under / (under + over)): these weights are what the decisions' own quantile says.
UNDER, OVER = 9.0, 1.0
# Truths of which the sums are: about the last hundred, as of the bands' coverage. Threats are rarer and kept for fifty.
_KEPT, _KEPT_THREATS = 0.99, 0.98
# Truths without which there is no verdict.
READY = 20
# The right is earned by costing no more, and being better by 2 % in cost or in loss (forecasting design: last-value wins ties
# within so much). It is lost by costing 5 % more: sums of a hundred overlapping horizons waver by some percent by themselves.
BETTER, WORSE = 0.98, 1.05
# control-plane design 2.3: actuation on spikes only while precision is 0.8 at least, of 20 of them. Between the two it stays.
THREATS_READY = 20
PRECISE, IMPRECISE = 0.8, 0.7
# Before there is a verdict (docs/adr/0046 has the measurement).
AT_FIRST = False
# What is no number, or none that a load could be, counts as so many times the cost of the newest value and the load together.
_NONSENSE = 10.0
MOST_RPS = 1e9


@dataclass(frozen=True, slots=True)
class Merit:
    """Sums over late truths, in requests/s: `cost` of planning on the forecast, pinball `loss` at q50 and q90, and the same of
    the newest value with a band of its own misses. `threats` that only the forecast saw and that were judged, and how many were
    `right`.
    """

    may_act: bool = AT_FIRST
    truths: int = 0
    cost: float = 0.0
    newest_cost: float = 0.0
    loss: float = 0.0
    newest_loss: float = 0.0
    threats: float = 0.0
    right: float = 0.0
    threats_seen: int = 0

    @property
    def is_known(self) -> bool:
        return self.truths >= READY

    @property
    def cost_ratio(self) -> float | None:
        """Below 1 planning on forecasts is the cheaper; None where the newest value cost nothing."""
        return self.cost / self.newest_cost if self.newest_cost > 0 else None

    @property
    def loss_ratio(self) -> float | None:
        return self.loss / self.newest_loss if self.newest_loss > 0 else None

    @property
    def precision(self) -> float | None:
        """Of threats that only the forecast saw; None before there was one."""
        return self.right / self.threats if self.threats > 0 else None


@dataclass(frozen=True, slots=True)
class Said:
    """What one voice said of a horizon, in requests/s: the load to plan for, and the quantiles at its end."""

    planned: float
    q50: float
    q90: float

    def cost(self, lasted: float) -> float:
        """Of having planned so, where `lasted` came; infinite for a plan that is no number."""
        if not math.isfinite(self.planned):
            return math.inf
        return UNDER * max(0.0, lasted - self.planned) + OVER * max(0.0, self.planned - lasted)

    def loss(self, at_end: float) -> float:
        if not (math.isfinite(self.q50) and math.isfinite(self.q90)):
            return math.inf
        return pinball(at_end, self.q50, 0.5) + pinball(at_end, self.q90, 0.9)


def scored(merit: Merit, forecast: Said, newest: Said, *, lasted: float, at_end: float) -> Merit:
    """With one more truth: the load that lasted within the horizon, and that of its last window. All finite but the forecast."""
    cost, loss = newest.cost(lasted), newest.loss(at_end)
    return _gated(
        replace(
            merit,
            truths=merit.truths + 1,
            cost=_KEPT * merit.cost + _number(forecast.cost(lasted), cost + lasted),
            newest_cost=_KEPT * merit.newest_cost + cost,
            loss=_KEPT * merit.loss + _number(forecast.loss(at_end), loss + at_end),
            newest_loss=_KEPT * merit.newest_loss + loss,
        )
    )


def judged(merit: Merit, *, right: bool) -> Merit:
    """With one more threat that only the forecast saw."""
    return _gated(
        replace(
            merit,
            threats=_KEPT_THREATS * merit.threats + 1.0,
            right=_KEPT_THREATS * merit.right + float(right),
            threats_seen=merit.threats_seen + 1,
        )
    )


def said(merit: Merit) -> str:
    """Why it may act or not, in one sentence."""
    if not merit.is_known:
        return f"Of {READY} forecasts whose truth must be known, {merit.truths} are."
    ratio = merit.cost_ratio
    if ratio is None:
        cost = "Planning on the newest value alone cost nothing of late, so there is nothing to win"
    else:
        cost = f"Planning on forecasts cost {ratio:.2f} times what planning on the newest value alone would have"
    if merit.threats_seen == 0:
        return f"{cost}."
    seen = f"of {merit.threats_seen} threats that only they saw {merit.precision or 0.0:.0%} were right"
    return f"{cost}; {seen}."


def stored(merit: Merit) -> dict[str, Any]:
    """As plain JSON."""
    return asdict(merit)


def restored(row: dict[str, Any]) -> Merit:
    """Raises ValueError for what `stored` has not made, and for sums that are no numbers."""
    found = _MERIT.validate_python(row)
    sums = (found.cost, found.newest_cost, found.loss, found.newest_loss, found.threats, found.right)
    if not all(math.isfinite(value) and value >= 0 for value in sums):
        raise ValueError("sums that are no numbers")
    return found


_MERIT: TypeAdapter[Merit] = TypeAdapter(Merit)


def _number(value: float, instead: float) -> float:
    return value if value < MOST_RPS else _NONSENSE * instead  # NaN is below nothing


def _gated(merit: Merit) -> Merit:
    return replace(merit, may_act=_may_act(merit))


def _may_act(merit: Merit) -> bool:
    if not merit.is_known:
        return AT_FIRST
    if merit.threats_seen >= THREATS_READY:
        least = IMPRECISE if merit.may_act else PRECISE
        if merit.right < least * merit.threats:
            return False
    if merit.may_act:
        return merit.cost <= WORSE * merit.newest_cost
    return _at_most(merit.cost, merit.newest_cost) and _at_most(merit.loss, merit.newest_loss) and _is_better(merit)


def _is_better(merit: Merit) -> bool:
    return merit.cost < BETTER * merit.newest_cost or merit.loss < BETTER * merit.newest_loss


def _at_most(value: float, limit: float) -> bool:
    """But for the last bits of long sums."""
    return value <= limit * (1 + 1e-9)
