"""What is compared, and the policy that the pool has meanwhile."""

from collections.abc import Sequence
from dataclasses import dataclass

from controlplane.decisions.policy import (
    LONGEST_BOOKS_S,
    SHORTEST_BOOKS_S,
    Autonomy,
    OnInconclusive,
    Policy,
    Quality,
    RolloutPolicy,
    ServedPolicy,
    Slo,
    demo_policy,
)
from inference_node.contract.settings import KNOBS, EngineSettings
from trimtab.errors import UsageError
from trimtab.surge_bench.answer import Objectives
from trimtab.surge_bench.budget import Budget
from trimtab.surge_bench.level import Level, level_of, parse_level

TRIMTAB, DEFAULT, STATIC, STATIC_BEST = "trimtab", "default", "static", "static-best"
KINDS = (TRIMTAB, DEFAULT, STATIC)
BATCHES = (4, 16)
_AUTO = ("max_batch_size", "max_batched_tokens", "batch_wait_ms", "precision", "pruning_threshold")


@dataclass(frozen=True, slots=True)
class Contestant:
    """A row of the results. `settings` are in force when its run begins; only trimtab's change on the way."""

    name: str
    settings: EngineSettings

    @property
    def is_tuned(self) -> bool:
        return self.name == TRIMTAB


def contestants(
    wanted: Sequence[str], default: EngineSettings, kept: Sequence[Level], grid: Sequence[tuple[Level, int]] | None
) -> list[Contestant]:
    """trimtab first, so that it has seen no surge before; then nobody, then the fixed ones. What equals the default is not run
    twice. grid: instead of every level that keeps the budget at BATCHES."""
    found = [Contestant(kind, default) for kind in (TRIMTAB, DEFAULT) if kind in wanted]
    if STATIC in wanted:
        cells = grid if grid is not None else [(level, batch) for level in kept for batch in BATCHES]
        fixed = [level.of(default).replace(max_batch_size=batch) for level, batch in dict.fromkeys(cells)]
        found += [Contestant(static_name(settings), settings) for settings in fixed if settings != default]
    return found


def static_name(settings: EngineSettings) -> str:
    return f"static: {level_of(settings).name} batch {settings.max_batch_size}"


def parse_kinds(text: str) -> tuple[str, ...]:
    """Raises UsageError."""
    if text == "all":
        return KINDS
    wanted = tuple(part.strip() for part in text.split(","))
    unknown = [part for part in wanted if part not in KINDS]
    if unknown:
        raise UsageError(f"--policy {unknown[0]}: there are {', '.join(KINDS)}, and all")
    return wanted


def parse_grid(text: str) -> tuple[tuple[Level, int], ...]:
    """`bf16:16,int8:4`: level and batch. Raises UsageError."""
    return tuple(_cell(part.strip()) for part in text.split(","))


def _cell(text: str) -> tuple[Level, int]:
    level, _, batch = text.rpartition(":")
    if not batch.isdecimal() or not 1 <= int(batch) <= 512:
        raise UsageError(f"--grid {text}: write level and batch size, from 1 to 512, say int8:16")
    return parse_level(level, "--grid"), int(batch)


def untouched() -> Policy:
    """Nobody turns anything by itself, and what the benchmark asks for is tried as shortly as can be: two windows before, none
    of what is served scored, and no watch afterwards."""
    return Policy(
        autonomy=dict.fromkeys(KNOBS, Autonomy.OFF),
        rollout=RolloutPolicy(
            window_s=5.0, windows=2, settle_s=0.0, min_requests=0, on_inconclusive=OnInconclusive.PROMOTE,
            progress_deadline_s=240.0, bake_s=0.0, quarantine_s=0.0, served=ServedPolicy(share=0.0),
        ),
    )  # fmt: skip


def tuning(objectives: Objectives, itl_p95_s: float, budget: Budget, run_s: float) -> Policy:
    """The controller's: the objectives and the budget of this run, guardrails as in the replay benchmark, canaries as in the
    demo's policy. itl_p95_s: what the 95 % quantile of gaps may be. run_s: over how long the books of quality are kept.

    Without the freeze of a spent error budget, which looks at an hour: a run would end within it.
    """
    base = demo_policy()
    guardrails = base.guardrails.model_copy(
        update={"cooldown_relaxing_s": 90.0, "max_changes_per_h": 60, "flap_reversals": 20, "max_burn_rate": None}
    )
    quality = Quality(
        max_loss_ratio=budget.most,
        average_loss_ratio=budget.average or None,
        average_over_s=min(max(run_s, SHORTEST_BOOKS_S), LONGEST_BOOKS_S),
    )
    return base.model_copy(
        update={
            "slo": Slo(ttft_p95_s=objectives.ttft_s, itl_p95_s=itl_p95_s),
            "autonomy": base.autonomy | dict.fromkeys(_AUTO, Autonomy.AUTO),
            "guardrails": guardrails,
            "quality": quality,
        }
    )
