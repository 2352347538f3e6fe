"""What is replayed: a recorded trace made fit for a simulated pool, with objectives, faults and a budget for quality.

Everything here follows from the trace and the measured step table alone, before any policy runs.
"""

from dataclasses import dataclass

import numpy as np

from controlplane.bench.replay.arrivals import Arrivals
from controlplane.bench.replay.pool import Faults
from controlplane.bench.replay.step_table import Level, Levels
from controlplane.decisions.policy import Autonomy, CertifiedVariant, Policy, Quality, Slo
from inference_node.contract.settings import EngineSettings, KnobBounds

_SEGMENT_S = 300.0


@dataclass(frozen=True, slots=True)
class Options:
    """`utilisation`: how full the trace's median five minutes make the pool, by the exact level's step table at its knee.

    A trace longer than two windows is cut into three of `window_s` seconds. Requests of the first `warm_s` seconds are served,
    not scored: a service has been set up long before the day that is looked at.
    """

    nodes: int = 4
    utilisation: float = 0.9
    window_s: float = 1800.0
    warm_s: float = 300.0
    limit_s: float | None = None
    faults: bool = True
    seed: int = 0
    max_model_len: int = 8192
    kv_tokens: int = 262_144


@dataclass(frozen=True, slots=True)
class Case:
    """A trace made fit for the pool, with objectives, faults and a quality budget that are the same for every policy."""

    arrivals: Arrivals
    policy: Policy
    faults: Faults
    share: float
    budget: float
    warm_s: float = 0.0


def prepare_all(arrivals: Arrivals, levels: Levels, options: Options) -> list[Case]:
    """The cases of a trace: itself, or the windows of it that the rules name."""
    cut = arrivals if options.limit_s is None else arrivals.first(options.limit_s)
    cut = cut.clipped(options.max_model_len * 3 // 4, options.max_model_len // 4)
    reference = _Reference.of(cut, levels, options)
    if cut.duration_s <= 2 * options.window_s:
        return [_case(cut, cut, levels, reference, options)]
    return [
        _case(cut.part(f"{cut.name}, {word}", start_s, options.window_s), cut, levels, reference, options)
        for word, start_s in telling_windows(cut, options.window_s).items()
    ]


def telling_windows(arrivals: Arrivals, window_s: float) -> dict[str, float]:
    """Where the window with the most requests begins, the one that grows most from its first to its second half, and the median
    one: by word. Windows begin every half length."""
    half = window_s / 2
    counts = np.bincount((arrivals.t // half).astype(int))[: int(arrivals.duration_s // half)].astype(float)
    sums, growth = counts[:-1] + counts[1:], counts[1:] / np.maximum(counts[:-1], 1.0)
    busiest, rising = int(np.argmax(sums)), int(np.argmax(growth))
    median = int(np.argsort(sums, kind="stable")[len(sums) // 2])
    return {"busiest": busiest * half, "rising": rising * half, "median": median * half}


def prepare(arrivals: Arrivals, levels: Levels, options: Options) -> Case:
    """The first case of `prepare_all`."""
    return prepare_all(arrivals, levels, options)[0]


@dataclass(frozen=True, slots=True)
class _Reference:
    """What sizes the load and sets the objectives: the exact level at its knee, under the trace's mean request."""

    rows: int
    capacity_rps: float
    median_rps: float
    slo: Slo

    @classmethod
    def of(cls, cut: Arrivals, levels: Levels, options: Options) -> "_Reference":
        table = levels.exact
        rows = table.knee_rows
        prompt, answer = float(np.mean(cut.prompt)), float(np.mean(cut.answer))
        step_s = table.step_s(rows, 0)
        per_token_s = (table.step_s(rows, 1024) - step_s) / 1024
        capacity = options.nodes / (answer * step_s / rows + prompt * per_token_s)
        counts = np.bincount((cut.t // _SEGMENT_S).astype(int))[: max(1, int(cut.duration_s // _SEGMENT_S))]
        median = float(np.median(counts)) / min(_SEGMENT_S, max(cut.duration_s, 1.0))
        # Five times what a long prompt needs alone, and twice a step at the knee with the prefill that this mix of lengths brings
        # along: without it, no settings could keep the gap where prompts are long and answers short.
        mixed = min(int(rows * prompt / answer), EngineSettings().max_batched_tokens)
        long_prompt = int(np.quantile(cut.prompt, 0.95))
        slo = Slo(ttft_p95_s=5 * table.step_s(1, long_prompt), itl_p95_s=2 * table.step_s(rows, mixed))
        return cls(rows, capacity, max(median, 1e-9), slo)


def _case(part: Arrivals, whole: Arrivals, levels: Levels, reference: _Reference, options: Options) -> Case:
    share = options.utilisation * reference.capacity_rps / reference.median_rps
    scaled = part.scaled(share, options.seed)
    faults = Faults.drawn(options.nodes, scaled.duration_s, options.seed) if options.faults else Faults()
    # Half of what the fastest level costs: it may answer half of the tokens, and no fixed choice of it keeps the budget.
    budget = levels.losses[levels.fastest] / 2
    warm_s = min(options.warm_s, scaled.duration_s / 4)
    return Case(scaled, policy_of(reference.slo, levels, budget), faults, share, budget, warm_s)


def policy_of(slo: Slo, levels: Levels, budget: float) -> Policy:
    """The controller's policy: what the levels allow, all knobs that the other policies turn, the rest as by default."""
    rows = limit_rows(levels)
    default = Policy()
    autonomy = default.autonomy | dict.fromkeys(("precision", "pruning_threshold", "max_queue"), Autonomy.AUTO)
    variants = tuple(
        CertifiedVariant(
            precision=precision,
            pruning_threshold=pruning,
            quality_loss_ratio=loss,
            step_time_ratio=None if pruning == 0 else _ratio(levels, (precision, pruning)),
        )
        for (precision, pruning), loss in levels.losses.items()
    )
    bounds = default.guardrails.bounds | {"max_batch_size": KnobBounds(min=1, max=rows)}
    quality = Quality(
        max_loss_ratio=max(levels.losses.values()),
        average_loss_ratio=budget if budget > 0 else None,
        certified=variants,
    )
    # Levels that lie in memory side by side are taken in turn as surges come and go; the defaults are for rarer changes.
    guardrails = default.guardrails.model_copy(
        update={"bounds": bounds, "cooldown_relaxing_s": 90.0, "max_changes_per_h": 60, "flap_reversals": 20}
    )
    return default.model_copy(update={"slo": slo, "autonomy": autonomy, "quality": quality, "guardrails": guardrails})


def _ratio(levels: Levels, level: Level) -> float:
    rows = levels.exact.knee_rows
    return levels.tables[level].step_s(rows, 256) / levels.tables[level[0], 0.0].step_s(rows, 256)


def limit_rows(levels: Levels) -> int:
    return max(64, max(cell.decode_rows for cell in levels.profile.cells))
