"""The whole benchmark: train on one folder, score another, and say how far each figure can be trusted."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from controlplane.bench.forecast import baselines
from controlplane.bench.forecast.services import Case, history_of, scored_cases, split_last_third, training_case
from controlplane.bench.forecast.traces import BadTraces, Floats, Trace, read_folder
from controlplane.forecasting.spikes import training
from controlplane.forecasting.spikes.costs import Costs, fit_costs
from controlplane.forecasting.spikes.features import features
from controlplane.forecasting.spikes.intervals import bootstrap, wilson
from controlplane.forecasting.spikes.labels import label
from controlplane.forecasting.spikes.matching import Indices, Verdict, judge, raise_warnings
from controlplane.forecasting.spikes.pacing import Pace, choose_pace, first_scored, paced
from controlplane.forecasting.spikes.risk import SpikeRisk, probability
from controlplane.forecasting.spikes.thresholds import Scored, Setting, choose
from controlplane.forecasting.spikes.truth import Bools

PRODUCT = "trimtab"
_BLOCK_S = 6 * 3600.0
# Replica-seconds per prompt token, generated token and request where nothing in the folder scales: a 70B-class model.
_DEFAULT_COSTS = Costs(1.8e-4, 4e-4, 0.0)

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One model on one case under one setting. `scores` [N] over the whole trace, `raised` windows of warnings in the
    scored part. `pace`: warnings a day that a service never seen was held to; its scores are then relative to that level."""

    case: Case
    model: str
    setting: Setting
    threshold: float | None
    scores: Floats
    raised: Indices
    verdict: Verdict
    part: str
    pace: float | None = None

    def row(self) -> dict[str, Any]:
        v = self.verdict
        return {
            "trace": self.case.name,
            "seen": self.case.seen,
            "part": self.part,
            "model": self.model,
            "setting": self.setting.value,
            "precision": _number(v.precision),
            "strict_precision": _number(v.strict_precision),
            "recall": _number(v.recall),
            "f1": _number(v.f1) if v.spikes else None,
            "lead_time_s": {"p50": _number(v.lead_s)},
            "warnings_per_day": _number(v.per_day),
            "warnings": v.warnings,
            "right": v.right,
            "false": v.false,
            "neutral": v.neutral,
            "spikes": v.spikes,
            "foreseen": v.foreseen,
            "days": v.days,
            "slo_s": self.case.truth.slo_s,
            "threshold": self.threshold,
            "pace_per_day": self.pace,
            "intervals": self._intervals(),
        }

    def _intervals(self) -> dict[str, Any]:
        v = self.verdict
        blocks = self._blocks()
        return {
            "precision": wilson(v.right, v.right + v.false),
            "recall": wilson(v.foreseen, v.spikes),
            "f1": bootstrap(blocks, lambda verdict: verdict.f1 if verdict.spikes else float("nan")),
            "lead_time_s": bootstrap(blocks, lambda verdict: verdict.lead_s),
        }

    def _blocks(self) -> list[Verdict]:
        case = self.case
        width = round(_BLOCK_S / case.trace.step_s)
        edges = [*range(case.start, len(case.trace), width), len(case.trace)]
        return [judge(self.raised, case.truth, start, stop, case.trace.step_s) for start, stop in pairwise(edges)]


@dataclass(frozen=True, slots=True)
class Report:
    """`outcomes`: of the scored parts; `development`: out of fold on the training part; `strangers`: each training service as one
    never seen, by models and paces of the others; `model`: the product's, trained on all of it."""

    outcomes: list[Outcome]
    development: list[Outcome]
    strangers: list[Outcome]
    notes: list[str]
    model: SpikeRisk | None
    took_s: float


def run(train_dir: Path, test_dir: Path | None, *, seed: int, say: Say) -> Report:
    """Raises BadTraces."""
    began = time.monotonic()
    train = read_folder(train_dir)
    test = read_folder(test_dir) if test_dir else []
    if test_dir is None:
        train, test = split_last_third(train)
    notes = [f"{trace.name}: {note}" for trace in (*train, *test) for note in trace.notes]
    return score(train, test, notes, seed=seed, say=say, began=began)


def score(
    train: Sequence[Trace], test: Sequence[Trace], notes: Sequence[str], *, seed: int, say: Say, began: float
) -> Report:
    """The benchmark on traces in memory. Raises BadTraces when the training part holds no latency at all."""
    known = [case for trace in train if (case := training_case(trace))]
    if not known:
        raise BadTraces("no training trace holds a latency in ttft_p99, so there is no SLO to learn")
    cases, left_out = scored_cases(train, test)
    costs = costs_of(train)
    outcomes: list[Outcome] = []
    development: list[Outcome] = []
    strangers: list[Outcome] = []
    for name, baseline in baselines.BASELINES.items():
        say(f"baseline {name}")
        past = {case.name: baseline(case, costs) for case in known}
        fresh = {case.name: baseline(case, costs) for case in cases}
        outcomes += _judged(name, known, past, past, cases, fresh)
        development += _developed(name, known, past)
        strangers += _as_strangers(name, known, past)
    services = [service_of(case, costs) for case in known]
    in_time = training.in_time(services, seed, say)
    across = training.across(services, seed, say)
    say("training on everything")
    members = training.grow([(service, np.ones(len(service), dtype=bool)) for service in services], seed)
    model = None
    if members is not None:
        calibration = training.calibrate(services, in_time)
        past, foreign = ({n: calibration_of(s, calibration) for n, s in x.items()} for x in (in_time, across))
        thresholds = {setting.value: _threshold(None, known, foreign, setting) for setting in Setting}
        model = training.assemble(
            members, calibration, names=feature_names(known[0], costs), costs=costs, thresholds=thresholds,
            trained_on={case.name: len(case.truth.spikes) for case in known},
        )  # fmt: skip
        say("scoring")
        fresh = {case.name: model.of(history_of(case.trace), case.truth.slo_s) for case in cases}
        outcomes += _judged(PRODUCT, known, past, foreign, cases, fresh)
        development += _developed(PRODUCT, known, past)
        strangers += _as_strangers(PRODUCT, known, foreign)
    else:
        left_out.append("the training part holds too few spikes for a learned model; the fluid model stands alone")
    return Report(outcomes, development, strangers, [*notes, *left_out], model, time.monotonic() - began)


def costs_of(train: Sequence[Trace]) -> Costs:
    """What requests cost, from how the training fleets scaled; traces of one step length are pooled."""
    step_s = float(np.median([trace.step_s for trace in train]))
    same = [trace for trace in train if trace.step_s == step_s]
    facts = [(trace["arrivals"], trace["input_tokens"], trace["decoded_tokens"], trace["desired"]) for trace in same]
    return fit_costs(facts, step_s) or _DEFAULT_COSTS


def service_of(case: Case, costs: Costs) -> training.Service:
    """The case as training data."""
    rows = np.column_stack(list(features(history_of(case.trace), case.truth.slo_s, costs).values()))
    labels = label(case.trace["ttft_p99"], case.truth.slo_s, case.truth.onsets, case.trace.step_s)
    return training.Service(case.name, rows, labels, ~case.truth.blocked, case.trace.step_s)


def feature_names(case: Case, costs: Costs) -> list[str]:
    """In the order of the columns of `service_of`."""
    return list(features(history_of(case.trace.part(0, 2)), case.truth.slo_s, costs))


def calibration_of(nearness: Floats, calibration: tuple[float, float]) -> Floats:
    """Out-of-fold nearness as the probability that the served model would say."""
    return probability(calibration[0] * nearness + calibration[1])


def _judged(
    model: str,
    known: Sequence[Case],
    past: dict[str, Floats],
    foreign: dict[str, Floats],
    cases: Sequence[Case],
    fresh: dict[str, Floats],
) -> list[Outcome]:
    """past: training scores in time, for services that go on; foreign: by models of other services, for those never seen."""
    found = []
    for setting in Setting:
        pace = choose_pace([_scored(k, foreign) for k in known], setting)
        for case in cases:
            own = next((k for k in known if k.name == case.name), None)
            if own is None:
                found.append(_paced(case, model, setting, pace, fresh[case.name], "test"))
            else:
                threshold = _threshold(own, known, past, setting)
                found.append(_outcome(case, model, setting, threshold, fresh[case.name], "test"))
    return found


def _as_strangers(model: str, known: Sequence[Case], foreign: dict[str, Floats]) -> list[Outcome]:
    """Each service with spikes by a model of others (foreign), at a pace that others have chosen."""
    found = []
    for case in known:
        if not case.truth.spikes or not np.isfinite(foreign[case.name]).any():
            continue
        start = first_scored(len(case.trace), case.trace.step_s)
        stranger = Case(case.trace, case.truth, start, seen=False)
        others = [_scored(other, foreign) for other in known if other.name != case.name]
        for setting in Setting:
            pace = choose_pace(others, setting)
            found.append(_paced(stranger, model, setting, pace, foreign[case.name], "stranger"))
    return found


def _developed(model: str, known: Sequence[Case], past: dict[str, Floats]) -> list[Outcome]:
    """On the training part, out of fold; the threshold is of the same scores, as in the table of baselines."""
    return [
        _outcome(case, model, setting, _threshold(case, [case], past, setting), past[case.name], "development")
        for case in known
        if case.truth.spikes
        for setting in Setting
    ]


def _scored(case: Case, scores: dict[str, Floats]) -> Scored:
    return Scored(scores[case.name], case.truth, case.trace.step_s)


def _paced(case: Case, model: str, setting: Setting, pace: Pace | None, scores: Floats, part: str) -> Outcome:
    """A service never seen: its scores against the level that keeps the pace. The threshold told is 0."""
    if pace is None:
        return _outcome(case, model, setting, None, scores, part)
    known = np.where(np.isfinite(scores), scores, -np.inf)
    per_day = pace.per_day(case.truth, case.start, case.trace.step_s)
    due = paced(known, case.truth.blocked, case.trace.step_s, case.start, per_day)
    return replace(_outcome(case, model, setting, 0.0, due, part), pace=per_day)


def _threshold(own: Case | None, known: Sequence[Case], scores: dict[str, Floats], setting: Setting) -> float | None:
    scored = {case.name: Scored(scores[case.name], case.truth, case.trace.step_s) for case in known}
    others = [scored[case.name] for case in known if own is None or case.name != own.name]
    return choose(scored[own.name] if own else None, others, setting)


def _outcome(case: Case, model: str, setting: Setting, threshold: float | None, scores: Floats, part: str) -> Outcome:
    step_s = case.trace.step_s
    raised: Indices = np.zeros(0, dtype=np.int64)
    if threshold is not None:
        open_now: Bools = np.arange(len(scores)) >= case.start
        raised = raise_warnings(np.where(open_now, scores, -np.inf), threshold, case.truth.blocked, step_s)
    verdict = judge(raised, case.truth, case.start, len(scores), step_s)
    return Outcome(case, model, setting, threshold, scores, raised, verdict, part)


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
