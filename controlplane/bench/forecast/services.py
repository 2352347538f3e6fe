"""A service under test: its trace, its truth, and which windows are training data and which are scored."""

from collections.abc import Sequence
from dataclasses import dataclass

from controlplane.bench.forecast.traces import Trace
from controlplane.forecasting.spikes.history import History
from controlplane.forecasting.spikes.truth import Truth, slo_of, truth_of

DAY_S = 86400.0
# A service never seen: its first day gives its SLO and is not scored; one that is shorter cannot be scored at all.
_MIN_SCORED_S = 3600.0


@dataclass(frozen=True, slots=True)
class Case:
    """`trace` from its first known window; windows [start, len) are scored, those before are past. `seen`: the training
    has it."""

    trace: Trace
    truth: Truth
    start: int
    seen: bool

    @property
    def name(self) -> str:
        return self.trace.name


def training_case(trace: Trace) -> Case | None:
    """A training trace with its own SLO; None when it holds no latency."""
    slo_s = slo_of(trace["ttft_p99"])
    if not slo_s > 0:
        return None
    return Case(trace, truth_of(trace["ttft_p99"], slo_s, trace.step_s), 0, seen=True)


def scored_cases(train: Sequence[Trace], test: Sequence[Trace]) -> tuple[list[Case], list[str]]:
    """What is scored, and in words what is not and why."""
    known = {trace.name: trace for trace in train}
    cases: list[Case] = []
    notes: list[str] = []
    for trace in test:
        before = known.get(trace.name)
        whole = trace if before is None else before.then(trace)
        start = round(DAY_S / trace.step_s) if before is None else len(before)
        if (len(whole) - start) * trace.step_s < _MIN_SCORED_S:
            kind = (
                "a service never seen, whose first day is not scored"
                if before is None
                else "going on after its training part"
            )
            notes.append(f"{trace.name}: not scored; {kind}, with less than an hour left")
            continue
        slo_s = slo_of(whole["ttft_p99"][:start])
        if not slo_s > 0:
            notes.append(f"{trace.name}: not scored; no latency before the part that would be scored, so no SLO")
            continue
        truth = truth_of(whole["ttft_p99"], slo_s, trace.step_s)
        cases.append(Case(whole, truth, start, seen=before is not None))
    return cases, notes


def split_last_third(traces: Sequence[Trace]) -> tuple[list[Trace], list[Trace]]:
    """Training and test parts of traces when no test folder is given."""
    cuts = [len(trace) * 2 // 3 for trace in traces]
    return (
        [trace.part(0, cut) for trace, cut in zip(traces, cuts, strict=True)],
        [trace.part(cut, len(trace)) for trace, cut in zip(traces, cuts, strict=True)],
    )


def history_of(trace: Trace) -> History:
    """The trace as the forecasting room reads telemetry."""
    return History(
        step_s=trace.step_s,
        arrivals=trace["arrivals"],
        prompt_tokens=trace["input_tokens"],
        generated_tokens=trace["decoded_tokens"],
        dropped=trace["dropped"],
        replicas=trace["replicas"],
        desired=trace["desired"],
        running=trace["running"],
        waiting=trace["waiting"],
        kv_usage=trace["kv_usage"],
        ttft_p50_s=trace["ttft_p50"],
        ttft_p99_s=trace["ttft_p99"],
    )
