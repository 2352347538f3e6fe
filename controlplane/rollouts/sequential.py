"""Tests that may be read after every window: whenever one looks, the chance of ever being wrong stays below alpha. Pure.

A planned look spends its error once; a guard looks every few seconds for as long as the canary lives. What it needs is an
e-process: evidence that on average never grows under the null hypothesis, so that it exceeds 1/alpha with probability alpha at
most over the whole time (Ville's inequality; G. Shafer, "Testing by betting", JRSS A 184(2), 2021).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

# Control-plane design 2.2: alpha of hard guards.
ALPHA = 0.001
# Bets on how many times as often the canary fails; their evidence is averaged, so none needs to be right.
_RATIOS = (1.5, 2.0, 4.0, 8.0, 32.0)
# Shares of the capital that are put on the next sign.
_STAKES = (0.2, 0.5, 0.8)


@dataclass(frozen=True, slots=True)
class Counts:
    """Events and trials of both arms in one window."""

    events: int
    total: int
    events_reference: int
    total_reference: int


def evidence_of_more(windows: Iterable[Counts]) -> float:
    """Evidence that events are more frequent on the first arm than on the reference in the same windows; infinite at the extreme.

    Given how many events a window has in all, and were both arms alike, each falls on the first arm with the share of trials
    that it has. The e-value of a window is the likelihood ratio of a larger share; windows multiply, and several ratios are
    averaged. With fixed trials the count is hypergeometric and not binomial: since the ratio is convex in it, its mean is smaller
    still (W. Hoeffding, "Probability inequalities for sums of bounded random variables", JASA 58, 1963, theorem 4), so the
    guarantee holds. What both arms suffer together, an outage behind them, leaves the share as it is and is no evidence.
    """
    logs = [0.0] * len(_RATIOS)
    for window in windows:
        everything = window.total + window.total_reference
        hits = window.events + window.events_reference
        if hits == 0 or window.total == 0 or window.total_reference == 0:
            continue
        share = window.total / everything
        for k, ratio in enumerate(_RATIOS):
            norm = math.log(share * ratio + 1 - share)
            logs[k] += window.events * math.log(ratio) - hits * norm
    top = max(logs)
    mean = sum(math.exp(value - top) for value in logs) / len(logs)
    return math.exp(min(700.0, top + math.log(mean)))


def evidence_of_positive(values: Iterable[float]) -> float:
    """Evidence that values lie above zero more often than below: a bet on each sign, whatever their distribution.

    Valid where each is positive with probability 1/2 at most, given those before it. Zeros are no bet.
    """
    capitals = [1.0] * len(_STAKES)
    for value in values:
        if value != 0:
            capitals = [
                min(1e300, capital * (1 + stake if value > 0 else 1 - stake))
                for capital, stake in zip(capitals, _STAKES, strict=True)
            ]
    return sum(capitals) / len(capitals)
