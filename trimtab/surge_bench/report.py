"""The document of a benchmark, from its runs. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from inference_node.bench.figures import spread
from inference_node.bench.occupancy import Occupancy
from trimtab.surge_bench.answer import Objectives, Outcome
from trimtab.surge_bench.budget import Budget
from trimtab.surge_bench.hands import Deeds
from trimtab.surge_bench.level import level_of
from trimtab.surge_bench.load import Shape
from trimtab.surge_bench.policies import DEFAULT, STATIC_BEST, TRIMTAB, Contestant
from trimtab.surge_bench.score import course, figures, scored

_KNOBS = ("precision", "pruning_threshold", "max_batch_size", "max_batched_tokens", "batch_wait_ms")


@dataclass(frozen=True, slots=True)
class Run:
    """One contestant under the whole load, once. `outcomes` hold the warm-up too; `deeds` are trimtab's alone.

    `occupancy`: who used the processors meanwhile; a run that others disturbed says little.
    """

    contestant: Contestant
    repeat: int
    outcomes: Sequence[Outcome]
    deeds: Deeds | None = None
    occupancy: Occupancy | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for every run. `losses`: by the name of a level."""

    objectives: Objectives
    budget: Budget
    losses: Mapping[str, float]
    shape: Shape


def results(runs: Sequence[Run], terms: Terms) -> list[dict[str, Any]]:
    """A row per contestant in the order of their first runs, and static-best, which was not run again, at the end."""
    by_name: dict[str, list[Run]] = {}
    for run in runs:
        by_name.setdefault(run.contestant.name, []).append(run)
    rows = [_row(own, terms) for own in by_name.values()]
    best = best_fixed(rows)
    return rows if best is None else [*rows, {**best, "policy": STATIC_BEST, "is": best["policy"]}]


def best_fixed(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """In hindsight, of the fixed settings that keep the budget, the default among them; of equals the one that loses least.

    None unless more than the default was run.
    """
    fixed = [row for row in rows if row["policy"] not in (TRIMTAB, STATIC_BEST) and row["may_be_best"]]
    if not any(row["policy"] != DEFAULT for row in fixed):
        return None
    return max(fixed, key=lambda row: (row["slo_attainment"] or 0.0, -(row["quality_loss"] or 0.0)))


def _row(runs: Sequence[Run], terms: Terms) -> dict[str, Any]:
    contestant = runs[0].contestant
    parts = [_part(run, terms) for run in runs]
    pooled = [outcome for run in runs for outcome in scored(run.outcomes, terms.shape)]
    whole = figures(pooled, terms.objectives, terms.losses, len(runs) * terms.shape.scored_s)
    shares = [part["slo_attainment"] for part in parts if part["slo_attainment"] is not None]
    settings = contestant.settings.model_dump(mode="json")
    return {
        "policy": contestant.name,
        "settings": {knob: settings[knob] for knob in _KNOBS},
        **whole,
        "within_budget": whole["quality_loss"] is not None and terms.budget.allows(whole["quality_loss"]),
        "may_be_best": not contestant.is_tuned and _keeps(contestant, terms),
        "slo_attainment_by_repeat": spread(shares) if shares else None,
        **{count: sum(part[count] for part in parts) for count in ("changes", "rollbacks", "unfinished")},
        "runs": parts,
    }


def _keeps(contestant: Contestant, terms: Terms) -> bool:
    loss = terms.losses.get(level_of(contestant.settings).name)
    return loss is not None and terms.budget.allows(loss)


def _part(run: Run, terms: Terms) -> dict[str, Any]:
    deeds = run.deeds or Deeds([], {}, 0, 0, 0)
    return {
        "repeat": run.repeat,
        **figures(scored(run.outcomes, terms.shape), terms.objectives, terms.losses, terms.shape.scored_s),
        "occupancy": None if run.occupancy is None else asdict(run.occupancy),
        "disturbed": run.occupancy is not None and run.occupancy.is_disturbed,
        "changes": deeds.changes, "rollbacks": deeds.rollbacks, "unfinished": deeds.unfinished,
        "reasons": deeds.reasons, "timeline": deeds.timeline,
        "course": course(run.outcomes, terms.objectives, terms.shape),
    }  # fmt: skip


def sign(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """By how many points (of a hundred requests) trimtab is over static-best, and that over the default; None where one of them
    was not run. `holds`: both are above 0, and trimtab kept the budget that static-best had to keep."""
    by_name = {row["policy"]: row for row in rows}
    named = [by_name.get(name) for name in (TRIMTAB, STATIC_BEST, DEFAULT)]
    tuned, best, default = named
    repeats = sorted(set.intersection(*({part["repeat"] for part in row["runs"]} for row in named if row is not None)))
    first, second = _points(tuned, best), _points(best, default)
    complete = first is not None and second is not None
    return {
        "trimtab_over_static_best_points": first,
        "static_best_over_default_points": second,
        "order_holds": first > 0 and second > 0 if first is not None and second is not None else None,
        "trimtab_within_budget": None if tuned is None else tuned["within_budget"],
        "holds": bool(complete and (first or 0) > 0 and (second or 0) > 0 and tuned and tuned["within_budget"]),
        "by_repeat": [
            {
                "repeat": repeat,
                "trimtab_over_static_best_points": _points(_of(tuned, repeat), _of(best, repeat)),
                "static_best_over_default_points": _points(_of(best, repeat), _of(default, repeat)),
            }
            for repeat in (repeats if complete else [])
        ],
    }


def _of(row: Mapping[str, Any] | None, repeat: int) -> Mapping[str, Any] | None:
    return None if row is None else next((part for part in row["runs"] if part["repeat"] == repeat), None)


def _points(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> float | None:
    if one is None or other is None or one["slo_attainment"] is None or other["slo_attainment"] is None:
        return None
    return round(100 * (float(one["slo_attainment"]) - float(other["slo_attainment"])), 3)
