"""The canary's answers against full precision, on what it really served: the verdicts, and a guard between looks. Pure.

Nodes tell per request how many places were scored, the mean divergence at them and at how many the likeliest token is the same
(`inference_node.contract.served`). Requests are the samples, not tokens: those of one text are not independent.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from controlplane.decisions.policy import ServedPolicy
from controlplane.rollouts.analysis import CONFIDENCE, Measurement, Verdict
from controlplane.rollouts.sequential import ALPHA, evidence_of_positive
from controlplane.rollouts.statistics import Estimate
from inference_node.contract.quality import is_full_precision
from inference_node.contract.served import AnswerMix, ServedQuality, ServedSample
from inference_node.contract.settings import EngineSettings, KvPrecision

KL, TOP1, MIX = "served_kl", "served_top1_loss", "answer_mix"
# Population stability index: what is below is commonly taken for no change (N. Siddiqi, "Credit Risk Scorecards", 2006, ch. 11).
PSI_LIMIT = 0.1
_MIN_ANSWERS = 50  # of each side: below, chance alone makes an index of that size
_RESAMPLES = 2000

Told = Sequence[ServedQuality | None]  # of each canary, None where it has told nothing of these settings


def at_stake(old: EngineSettings, new: EngineSettings) -> bool:
    """Whether answers may get worse by the change: neither full precision nor a level that is milder than the one before."""
    if old.numerics_key() == new.numerics_key() or is_full_precision(new):
        return False
    narrows = new.kv_precision not in (old.kv_precision, KvPrecision.MODEL)
    return new.precision is not old.precision or narrows or new.pruning_threshold > old.pruning_threshold


def unknown(told: Told) -> str | None:
    """Why nothing can be said, now or later; None where all canaries score."""
    if not told or any(each is None for each in told):
        return "the canary has not told how far its answers lie from full precision: is the node older than the control plane?"
    return next((f"the canary cannot score its answers: {each.unable}" for each in told if each and each.unable), None)


def measure(told: Told, policy: ServedPolicy) -> tuple[Measurement, ...]:
    """The divergence, the loss of likeliest tokens, and, for people only, whether answers end otherwise or have other lengths."""
    why = unknown(told)
    if why is not None:
        return tuple(Measurement(metric, Verdict.ERROR, detail=why) for metric in (KL, TOP1))
    known = [each for each in told if each is not None]
    samples = [sample for each in known for sample in each.samples]
    worst = max((each.kl_p99 for each in known if each.kl_p99 is not None), default=None)
    places = sum(sample.tokens for sample in samples)
    about = f"over {places} places of {len(samples)} requests" + (
        "" if worst is None else f", worst 1 % from {worst:.3g}"
    )
    losses = [1 - sample.agreed / sample.tokens for sample in samples]
    kl = _judged(
        KL, "divergence from full precision", "nats", [s.kl for s in samples], samples, policy.max_kl, policy, about
    )
    top1 = _judged(TOP1, "another likeliest token", "", losses, samples, policy.max_top1_loss, policy, about)
    return kl, top1, _mix([each.before for each in known], [each.since for each in known])


def fired(told: Told, policy: ServedPolicy) -> str | None:
    """What is so wrong with the answers that the canary goes back without waiting for a look; None while nothing is.

    The evidence may be read after every request: where at least half of all requests are within what is allowed, it is ever this
    strong with a probability of ALPHA at most.
    """
    known = [each for each in told if each is not None]
    for each in known:
        if each.broken:
            return f"the canary's settings predicted no numbers at {each.broken} of the requests that were scored again"
        evidence = evidence_of_positive(sample.kl - policy.max_kl for sample in each.samples)
        if evidence >= len(known) / ALPHA:
            worse = sum(sample.kl > policy.max_kl for sample in each.samples)
            return (
                f"answers of the canary lie further from full precision than allowed ({policy.max_kl:g} nats per token) at "
                f"{worse} of {len(each.samples)} requests that were scored again (evidence {min(evidence, 1e9):,.0f} to 1)"
            )
    return None


def interval(values: Sequence[float], weights: Sequence[int], confidence: float) -> Estimate:
    """Weighted mean and its interval over whole requests: bootstrap-t, which follows the skew that divergences have.

    Source: Efron, Tibshirani, "An Introduction to the Bootstrap" (1993), section 12.5; the standard error is the linearized one
    of a ratio. Always the same draws, so that a verdict can be worked out again.
    """
    x, w = np.asarray(values, dtype=float), np.asarray(weights, dtype=float)
    mean, error = (float(part[0]) for part in _means(x[None, :], w[None, :]))
    if error == 0:
        return Estimate(mean, mean, mean)
    drawn = np.random.default_rng(0).integers(0, len(x), (_RESAMPLES, len(x)))
    means, errors = _means(x[drawn], w[drawn])
    there = errors > 0
    tail = (1 - confidence) / 2
    low, high = np.quantile((means[there] - mean) / errors[there], [tail, 1 - tail])
    return Estimate(mean, max(0.0, mean - float(high) * error), mean - float(low) * error)


def _means(x: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each row the weighted mean and its standard error."""
    total, n = w.sum(axis=1), x.shape[1]
    means = (x * w).sum(axis=1) / total
    spread = ((w * (x - means[:, None])) ** 2).sum(axis=1)
    return means, np.sqrt(spread * n / (n - 1)) / total


def _judged(
    metric: str,
    words: str,
    unit: str,
    values: Sequence[float],
    samples: Sequence[ServedSample],
    margin: float,
    policy: ServedPolicy,
    about: str,
) -> Measurement:
    if len(samples) < policy.min_sequences:
        return Measurement(
            metric, Verdict.INCONCLUSIVE, margin=margin, samples_canary=len(samples),
            detail=f"{words}: {len(samples)} requests were scored again, a verdict needs {policy.min_sequences}",
        )  # fmt: skip
    found = interval(values, [sample.tokens for sample in samples], CONFIDENCE)
    verdict = Verdict.INCONCLUSIVE
    if found.low > margin:
        verdict = Verdict.FAIL
    elif found.high < margin:
        verdict = Verdict.PASS
    figures = " to ".join(_figure(part, unit) for part in (found.low, found.high))
    return Measurement(
        metric=metric, verdict=verdict, canary=found.value, baseline=0.0, ci_low=found.low, ci_high=found.high, margin=margin,
        samples_canary=len(samples), samples_baseline=len(samples), power=_power(found, margin),
        detail=f"{words} {_figure(found.value, unit)} ({figures}) {about}; allowed is {_figure(margin, unit)}",
    )  # fmt: skip


def _power(found: Estimate, margin: float) -> float:
    """How likely twice the margin would have been called FAIL, by the width of the interval that was found."""
    half = (found.high - found.low) / 2
    if half <= 0:
        return 1.0
    spread = half / NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    return NormalDist().cdf((margin - half) / spread)


def _mix(before: Sequence[AnswerMix], since: Sequence[AnswerMix]) -> Measurement:
    """How answers end and how long they are, against the same nodes under the settings before. The load of the hour moves it as
    well, so it takes no canary back: it tells people where to look."""
    ends = [(sum(m.stopped for m in side), sum(m.cut for m in side)) for side in (before, since)]
    lengths = [[sum(column) for column in zip(*(m.lengths for m in side), strict=True)] for side in (before, since)]
    numbers = [sum(m.total for m in side) for side in (before, since)]
    if min(numbers) < _MIN_ANSWERS:
        text = f"{numbers[1]} answers since the change and {numbers[0]} before are too few to compare how they end"
        return Measurement(
            MIX, Verdict.INCONCLUSIVE, margin=PSI_LIMIT, samples_canary=numbers[1], samples_baseline=numbers[0],
            detail=text, advisory=True,
        )  # fmt: skip
    of_ends, of_lengths = stability_index(*ends), stability_index(*lengths)
    verdict = Verdict.PASS if max(of_ends, of_lengths) < PSI_LIMIT else Verdict.INCONCLUSIVE
    return Measurement(
        MIX, verdict, canary=max(of_ends, of_lengths), baseline=0.0, margin=PSI_LIMIT, samples_canary=numbers[1],
        samples_baseline=numbers[0], advisory=True,
        detail=f"index of how answers end {of_ends:.3f}, of their lengths {of_lengths:.3f}; {PSI_LIMIT:g} is a change",
    )  # fmt: skip


def stability_index(before: Sequence[int], since: Sequence[int]) -> float:
    """Population stability index of two histograms with the same classes; half an answer is added to each."""
    pairs = zip(_shares(before), _shares(since), strict=True)
    return sum((q - p) * math.log(q / p) for p, q in pairs)


def _shares(counts: Sequence[int]) -> list[float]:
    total = sum(counts) + 0.5 * len(counts)
    return [(count + 0.5) / total for count in counts]


def _figure(value: float, unit: str) -> str:
    return f"{value:.3g} {unit}" if unit else f"{value:.1%}"
