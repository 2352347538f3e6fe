"""The canary against what would have been without the change: verdict per metric, and the verdict of the whole. Pure.

Latency: difference in differences of paired windows, so that neither the load that all nodes share nor the difference between
two nodes counts as an effect (control-plane design 2.2 has the simulation against naive tests). Errors and refusals: exact tests
on counts. Not measured is not bad, and never good: without data there is no PASS.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from statistics import NormalDist
from typing import Any

from controlplane.rollouts.arms import ArmWindow, Pair
from controlplane.rollouts.guards import LATENCIES
from controlplane.rollouts.plan import RolloutPlan
from controlplane.rollouts.statistics import Estimate, difference, fisher_greater, hodges_lehmann

# Two planned looks share 5 % (Bonferroni); the verdict is read at these and at no other time.
CONFIDENCE = 0.975
ALPHA_COUNTS = 0.005
_MOSTLY = 0.75  # of windows
MIN_DIFFERENCE = 0.01  # of shares: a smaller difference in refusals is no harm, however sure


class Verdict(StrEnum):
    """Only FAIL rolls back by itself. ERROR: the metrics were not to be had. INCONCLUSIVE: they were, and do not tell."""

    PASS = "PASS"  # noqa: S105 (a verdict)
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    ERROR = "ERROR"


@dataclass(frozen=True, slots=True)
class Measurement:
    """One metric's verdict with its numbers.

    Latency: `canary` is the level after the change, `baseline` what it would be without (seconds), `effect_ratio` their quotient
    with its interval; `samples_*` are windows; `power` is the chance that twice the margin would have been found out. Shares:
    `canary` and `baseline` are shares, `samples_*` are requests. Served answers: `canary` is the distance from full precision and
    the interval is of that distance. What is `advisory` decides nothing.
    """

    metric: str
    verdict: Verdict
    canary: float | None = None
    baseline: float | None = None
    effect_ratio: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    margin: float | None = None
    samples_canary: int = 0
    samples_baseline: int = 0
    detail: str = ""
    power: float | None = None
    advisory: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """One look."""

    verdict: Verdict
    explanation: str
    measurements: tuple[Measurement, ...] = ()

    def measurements_json(self) -> list[dict[str, Any]]:
        return [{**asdict(each), "verdict": each.verdict.value} for each in self.measurements]


def analyze(pre: Sequence[Pair], post: Sequence[Pair], plan: RolloutPlan, served: Sequence[Measurement] = ()) -> Report:
    """The verdict on windows before and after the canary step, oldest first, and on served answers, where those are at stake.

    Without `pre` no latency can PASS.
    """
    latencies = _trade([_latency(name, words, pre, post, plan) for name, words in LATENCIES], post, plan)
    refusals = _for_the_others(_rejected(post), latencies, pre, post, plan)
    measurements = (*latencies, _error_rate(pre, post, plan), refusals, *served)
    deciding = [each for each in measurements if not each.advisory]
    missing = _too_few_requests(post, plan)
    failed = [each for each in deciding if each.verdict is Verdict.FAIL]
    unmeasured = [each for each in deciding if each.verdict is Verdict.ERROR]
    open_ = [each for each in deciding if each.verdict is Verdict.INCONCLUSIVE]
    if failed:
        return Report(Verdict.FAIL, "; ".join(each.detail for each in failed), measurements)
    if unmeasured:
        return Report(Verdict.ERROR, "; ".join(dict.fromkeys(each.detail for each in unmeasured)), measurements)
    if missing is not None:
        return Report(Verdict.INCONCLUSIVE, missing, measurements)
    if open_:
        return Report(Verdict.INCONCLUSIVE, "; ".join(each.detail for each in open_), measurements)
    return Report(Verdict.PASS, "; ".join(each.detail for each in deciding), measurements)


def _latency(name: str, words: str, pre: Sequence[Pair], post: Sequence[Pair], plan: RolloutPlan) -> Measurement:
    before, after = _log_differences(name, pre), _log_differences(name, post)
    margin = plan.policy.margin
    estimates = hodges_lehmann(before, CONFIDENCE), hodges_lehmann(after, CONFIDENCE)
    if estimates[0] is None or estimates[1] is None:
        return Measurement(
            metric=name,
            verdict=Verdict.INCONCLUSIVE,
            margin=margin,
            samples_canary=len(after),
            samples_baseline=len(before),
            detail=f"{words}: {len(before)} windows before and {len(after)} after are too few to compare",
        )
    effect = difference(estimates[1], estimates[0])
    level = math.exp(_center(name, post))
    limit = math.log1p(margin)
    verdict = Verdict.INCONCLUSIVE
    if effect.low > limit:
        verdict = Verdict.FAIL
    elif effect.high < limit:
        verdict = Verdict.PASS
    return Measurement(
        metric=name,
        verdict=verdict,
        canary=level,
        baseline=level / math.exp(effect.value),
        effect_ratio=math.exp(effect.value),
        ci_low=math.exp(effect.low),
        ci_high=math.exp(effect.high),
        margin=margin,
        samples_canary=len(after),
        samples_baseline=len(before),
        detail=f"{words} {_effect_words(effect)}; allowed is +{margin:.0%}",
        power=_power(effect, margin),
    )


def _power(effect: Estimate, margin: float) -> float:
    """How likely a true effect of twice the margin would have been called FAIL, by the width of the interval that was found."""
    half = (effect.high - effect.low) / 2
    if half <= 0:
        return 1.0
    spread = half / NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    return NormalDist().cdf((math.log1p(2 * margin) - math.log1p(margin) - half) / spread)


def _trade(found: list[Measurement], post: Sequence[Pair], plan: RolloutPlan) -> list[Measurement]:
    """Lets a latency get worse where that buys something: another is better for sure, and this one stays within its objective.

    A larger batch is just that trade: shorter queues for a slower step. Without a gain, worse is worse, wherever it stands.
    """
    gains = [each for each in found if each.ci_high is not None and each.ci_high < 1.0]
    traded = []
    for each in found:
        slo = getattr(plan.slo, each.metric)
        is_open = each.verdict in {Verdict.FAIL, Verdict.INCONCLUSIVE}
        better = [gain for gain in gains if gain.metric != each.metric]
        if is_open and each.canary is not None and better and _stays_within(each.metric, slo, post):
            detail = (
                f"{each.detail}; accepted, since it stays within {slo:g} s and {better[0].metric} is better for sure"
            )
            each = replace(each, verdict=Verdict.PASS, detail=detail)
        traded.append(each)
    return traded


def _stays_within(name: str, slo: float, post: Sequence[Pair]) -> bool:
    """Whether three quarters of the canary's windows are within the objective: a single p95 above it is chance."""
    values = [value for pair in post if (value := getattr(pair.canary, name)) is not None]
    return bool(values) and sum(value <= slo for value in values) >= _MOSTLY * len(values)


def _error_rate(pre: Sequence[Pair], post: Sequence[Pair], plan: RolloutPlan) -> Measurement:
    """Server errors against all that is known without the change: the control, and both arms before it."""
    canary = [pair.canary for pair in post]
    reference = [pair.control for pair in (*pre, *post) if pair.control] + [pair.canary for pair in pre]
    errors, requests = sum(w.errors for w in canary), sum(w.requests for w in canary)
    errors_ref, requests_ref = sum(w.errors for w in reference), sum(w.requests for w in reference)
    rate, rate_ref = _share(errors, requests), _share(errors_ref, requests_ref)
    p_value = fisher_greater(errors, requests, errors_ref, requests_ref)
    allowed = max(plan.slo.error_rate, rate_ref or 0.0)
    verdict = Verdict.INCONCLUSIVE
    if rate is None:
        pass
    elif p_value < ALPHA_COUNTS and rate > plan.slo.error_rate:
        verdict = Verdict.FAIL
    elif rate <= allowed:
        verdict = Verdict.PASS
    words = f"errors {errors} of {requests} requests on the canary, {errors_ref} of {requests_ref} without the change"
    return Measurement(
        metric="error_rate", verdict=verdict, canary=rate, baseline=rate_ref, margin=plan.slo.error_rate,
        samples_canary=requests, samples_baseline=requests_ref, detail=f"{words} (p {p_value:.3g})",
    )  # fmt: skip


def _rejected(post: Sequence[Pair]) -> Measurement:
    """Refusals (429) against the control in the same windows: how many there are depends on the load of the moment."""
    canary, control = [pair.canary for pair in post], [pair.control for pair in post if pair.control]
    refused, refused_ref = sum(w.rejected for w in canary), sum(w.rejected for w in control)
    total, total_ref = refused + sum(w.requests for w in canary), refused_ref + sum(w.requests for w in control)
    share, share_ref = _share(refused, total), _share(refused_ref, total_ref)
    p_value = fisher_greater(refused, total, refused_ref, total_ref)
    worse = share is not None and share - (share_ref or 0.0) > MIN_DIFFERENCE
    verdict = Verdict.PASS
    if worse:
        verdict = Verdict.FAIL if p_value < ALPHA_COUNTS else Verdict.INCONCLUSIVE
    words = f"refused {refused} of {total} on the canary, {refused_ref} of {total_ref} on the control"
    return Measurement(
        metric="rejected_ratio", verdict=verdict, canary=share, baseline=share_ref, margin=MIN_DIFFERENCE,
        samples_canary=total, samples_baseline=total_ref, detail=f"{words} (p {p_value:.3g})",
    )  # fmt: skip


def _for_the_others(
    found: Measurement, latencies: Sequence[Measurement], pre: Sequence[Pair], post: Sequence[Pair], plan: RolloutPlan
) -> Measurement:
    """Accepts refusals that let the others be in time, where without the change nearly everybody is late.

    A shorter queue is just that: the canary serves as many, their first tokens are sooner for sure and within the objective, and
    what it is held against (the control, or itself before in a pool of one) is beyond it.
    """
    name, slo = "ttft_p95_s", plan.slo.ttft_p95_s
    sooner = any(each.metric == name and each.ci_high is not None and each.ci_high < 1.0 for each in latencies)
    if found.verdict is Verdict.PASS or not sooner or not _stays_within(name, slo, post):
        return found
    controls = [pair.control for pair in post if pair.control is not None]
    without, nodes = (controls, len(plan.control)) if controls else ([pair.canary for pair in pre], len(plan.canary))
    late = [window.ttft_p95_s > slo for window in without if window.ttft_p95_s is not None]
    served = _per_window([pair.canary for pair in post], len(plan.canary))
    if not late or sum(late) < _MOSTLY * len(late) or served < (1 - plan.policy.margin) * _per_window(without, nodes):
        return found
    words = f"accepted, since as many are served, within {slo:g} s, and without the change they are late"
    return replace(found, verdict=Verdict.PASS, detail=f"{found.detail}; {words}")


def _per_window(windows: Sequence[ArmWindow], nodes: int) -> float:
    """Requests that a node served."""
    return sum(window.requests - window.errors for window in windows) / max(len(windows) * nodes, 1)


def _too_few_requests(post: Sequence[Pair], plan: RolloutPlan) -> str | None:
    least = plan.policy.min_requests
    arms: list[tuple[str, list[ArmWindow]]] = [("canary", [pair.canary for pair in post])]
    if plan.control:
        arms.append(("control", [pair.control for pair in post if pair.control]))
    for name, windows in arms:
        requests = sum(window.requests for window in windows)
        if requests < least or requests == 0:
            return f"the {name} served {requests} requests in {len(post)} windows, a verdict needs {max(1, least)}"
    return None


def _log_differences(name: str, found: Sequence[Pair]) -> list[float]:
    values = []
    for pair in found:
        ours = getattr(pair.canary, name)
        theirs = 1.0 if pair.control is None else getattr(pair.control, name)
        if ours is not None and theirs is not None:
            values.append(math.log(ours) - math.log(theirs))
    return values


def _center(name: str, post: Sequence[Pair]) -> float:
    """Mean log level of the canary after the change."""
    logs = [math.log(value) for pair in post if (value := getattr(pair.canary, name)) is not None]
    return sum(logs) / len(logs)


def _effect_words(effect: Estimate) -> str:
    value, low, high = (math.expm1(part) for part in (effect.value, effect.low, effect.high))
    return f"{value:+.0%} ({low:+.0%} to {high:+.0%})"


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
