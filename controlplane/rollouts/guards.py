"""Hard guards: what takes a canary back at once, without waiting for statistics. Pure.

Each needs two consecutive windows, so that one bad scrape does nothing, and compares with the control or the canary's own past,
so that a surge which hits every node is not blamed on the change.
"""

import math
from collections.abc import Sequence
from statistics import median

from controlplane.decisions.canary_limits import LATENCY_RATIO, SLO_RATIO
from controlplane.rollouts.arms import ArmWindow, Pair
from controlplane.rollouts.plan import RolloutPlan
from controlplane.rollouts.sequential import ALPHA, Counts, evidence_of_more, evidence_of_positive
from controlplane.rollouts.statistics import hodges_lehmann

CONSECUTIVE = 2
ERROR_RATE = 0.05
ERROR_RATIO = 2.0  # over what the control or the own past shows
MIN_ERRORS = 3
MIN_REQUESTS = 3  # per window: below, its 95th percentile is a single request
LOAD_RATIO = 1.2  # without a control, windows under more load than this say nothing about the change

LATENCIES = (("ttft_p95_s", "p95 TTFT"), ("itl_p95_s", "p95 ITL"))


def fired(pre: Sequence[Pair], post: Sequence[Pair], plan: RolloutPlan) -> str | None:
    """What is so wrong with the canary that it must be taken back now, in words; None while nothing is.

    pre, post: pairs before the canary step and after it has settled, oldest first; gaps in time break a run of windows.
    """
    return _errors(pre, post, plan) or _latency(pre, post, plan) or _creeping(pre, post, plan)


def _errors(pre: Sequence[Pair], post: Sequence[Pair], plan: RolloutPlan) -> str | None:
    run = _latest_run(post, plan.policy.window_s)
    if len(run) >= CONSECUTIVE and all(_rate(pair.canary) >= ERROR_RATE for pair in run[-CONSECUTIVE:]):
        words = _error_words(pre, run[-CONSECUTIVE:], f"{CONSECUTIVE} windows in a row")
        if words is not None:
            return words
    # Few requests a window let errors fall between two windows, so the whole time counts, too.
    return _error_words(pre, post, f"{len(post)} windows together") if len(post) >= CONSECUTIVE else None


def _error_words(pre: Sequence[Pair], post: Sequence[Pair], span: str) -> str | None:
    errors, requests = _total([pair.canary for pair in post])
    if errors < MIN_ERRORS or errors < ERROR_RATE * requests:
        return None
    control = [pair.control for pair in post if pair.control is not None]
    reference = control or [pair.canary for pair in pre]
    other_errors, other_requests = _total(reference)
    if other_requests and errors / requests <= ERROR_RATIO * other_errors / other_requests:
        return None
    against = "control" if control else "before the change"
    return (
        f"{errors} of {requests} requests on the canary ended in a server error over {span} ({errors / requests:.1%}; "
        f"limit {ERROR_RATE:.0%}), {other_errors} of {other_requests} {'on the ' if control else ''}{against}"
    )


def _latency(pre: Sequence[Pair], post: Sequence[Pair], plan: RolloutPlan) -> str | None:
    run = _latest_run(post, plan.policy.window_s)[-CONSECUTIVE:]
    if len(run) < CONSECUTIVE or any(pair.canary.requests < MIN_REQUESTS for pair in run):
        return None
    offered = median([pair.canary.offered_rps for pair in pre]) if pre else 0.0
    if any(pair.control is None and pair.canary.offered_rps > LOAD_RATIO * offered for pair in run):
        return None
    for name, words in LATENCIES:
        slo = getattr(plan.slo, name)
        own, control = _median_of(name, pre, "canary"), _median_of(name, pre, "control")
        if own is None:
            continue
        seen = [getattr(pair.canary, name) for pair in run]
        shared = [_shared(name, pair, control) for pair in run]
        if any(value is None for value in seen) or any(_is_stuck(name, pair, control) for pair in run):
            continue
        ratios = [value / (own * share) for value, share in zip(seen, shared, strict=True)]
        worse = 1 + plan.policy.margin
        doubled = min(ratios) >= LATENCY_RATIO and min(seen) > slo
        far_over = min(ratios) > worse and min(seen) > SLO_RATIO * slo
        if doubled or far_over:
            return (
                f"{words} on the canary is {_seconds(seen[-1])} ({min(ratios):.1f} times what it would be without the change) "
                f"over {CONSECUTIVE} windows in a row; the objective is {_seconds(slo)}"
            )
    return None


def _creeping(pre: Sequence[Pair], post: Sequence[Pair], plan: RolloutPlan) -> str | None:
    """Less than disastrous, but sure: evidence that may be looked at after every window, against the control alone."""
    both = [(pair.canary, pair.control) for pair in post if pair.control is not None]
    counts = [Counts(ours.errors, ours.requests, theirs.errors, theirs.requests) for ours, theirs in both]
    errors, requests = _total([ours for ours, _ in both])
    if errors >= MIN_ERRORS and errors > plan.slo.error_rate * requests:
        evidence = evidence_of_more(counts)
        if evidence >= 1 / ALPHA:
            others, requests_there = _total([theirs for _, theirs in both])
            return (
                f"{errors} of {requests} requests on the canary ended in a server error, {others} of {requests_there} on the "
                f"control in the same {len(both)} windows (evidence {min(evidence, 1e9):,.0f} to 1)"
            )
    for name, words in LATENCIES:
        before = hodges_lehmann(_differences(name, pre), 1 - ALPHA)
        if before is None:
            continue
        limit = before.high + math.log1p(plan.policy.margin)
        after = _differences(name, post)
        evidence = evidence_of_positive(value - limit for value in after)
        beyond = sum(
            getattr(ours, name) > getattr(plan.slo, name) for ours, _ in both if getattr(ours, name) is not None
        )
        if evidence >= 1 / ALPHA and 2 * beyond > len(both):
            worse = sum(value > limit for value in after)
            return (
                f"{words} on the canary was worse than allowed (+{plan.policy.margin:.0%}) in {worse} of {len(after)} windows "
                f"(evidence {min(evidence, 1e9):,.0f} to 1), and beyond the objective of {_seconds(getattr(plan.slo, name))}"
            )
    return None


def _differences(name: str, found: Sequence[Pair]) -> list[float]:
    """Log ratios of canary to control, of the windows that have both."""
    values = []
    for pair in found:
        ours, theirs = getattr(pair.canary, name), None if pair.control is None else getattr(pair.control, name)
        if ours is not None and theirs is not None:
            values.append(math.log(ours / theirs))
    return values


def _latest_run(post: Sequence[Pair], window_s: float) -> Sequence[Pair]:
    """The newest pairs without a hole in time between them."""
    start = max(0, len(post) - 1)
    while start > 0 and (post[start].end - post[start - 1].end).total_seconds() <= 1.5 * window_s:
        start -= 1
    return post[start:]


def _is_stuck(name: str, pair: Pair, control_before: float | None) -> bool:
    """Whether the control, which used to have a figure, has none: a queue in which nothing gets to its first token says nothing
    about how long it will be, so the canary, which works its own queue off, must not be blamed for the surge."""
    return pair.control is not None and control_before is not None and getattr(pair.control, name) is None


def _shared(name: str, pair: Pair, control_before: float | None) -> float:
    """How much slower the control has become meanwhile; 1 without a control, and never less than 1."""
    now = None if pair.control is None else getattr(pair.control, name)
    if now is None or control_before is None:
        return 1.0
    return max(1.0, float(now) / control_before)


def _median_of(name: str, pre: Sequence[Pair], side: str) -> float | None:
    windows = [getattr(pair, side) for pair in pre]
    values = [v for w in windows if w is not None and (v := getattr(w, name)) is not None]
    return median(values) if values else None


def _total(windows: Sequence[ArmWindow]) -> tuple[int, int]:
    return sum(window.errors for window in windows), sum(window.requests for window in windows)


def _rate(window: ArmWindow) -> float:
    return window.errors / window.requests if window.requests else 0.0


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 1 else f"{1000 * value:.0f} ms"
