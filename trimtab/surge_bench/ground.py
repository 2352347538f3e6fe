"""What is settled before any policy runs, by rule, from what the levels carry and lose. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from inference_node.contract.settings import EngineSettings
from trimtab.errors import CommandError
from trimtab.surge_bench.answer import Objectives
from trimtab.surge_bench.budget import Budget
from trimtab.surge_bench.capacity import (
    Demand,
    Loop,
    capacity_rps,
    fastest_of,
    keepers,
    near_ties,
    objectives_of,
    quantile_objective_s,
)
from trimtab.surge_bench.level import Level, level_of
from trimtab.surge_bench.options import SurgeOptions


@dataclass(frozen=True, slots=True)
class Ground:
    """`losses`: by the name of a level. `kept`: the levels that a fixed choice may take. `capacities`: requests per second."""

    loops: Mapping[Level, Sequence[Loop]]
    losses: Mapping[str, float]
    budget: Budget
    kept: tuple[Level, ...]
    objectives: Objectives
    capacities: Mapping[Level, float]
    demand: Demand
    notes: tuple[str, ...]

    @classmethod
    def of(
        cls,
        loops: Mapping[Level, Sequence[Loop]],
        losses: Mapping[str, float],
        options: SurgeOptions,
        default: EngineSettings,
    ) -> "Ground":
        """Raises CommandError where no load follows from them."""
        budget = Budget.of(fastest_of(loops), losses, options.budget)
        kept = keepers(loops, losses, budget)
        if not kept:
            raise CommandError("no level keeps the quality budget: let --levels hold bf16, which loses nothing")
        objectives = _given(objectives_of(loops, kept), options)
        capacities = {level: capacity_rps(own, objectives) for level, own in loops.items()}
        usable = [level for level in loops if losses[level.name] <= budget.most]
        demand = Demand.of(capacities, kept, usable, options.calm, options.surge)
        ties = near_ties(loops, losses) if options.budget is None else []
        notes = _notes(loops, losses, budget, ties, capacities.get(level_of(default)), default)
        if demand.note is not None:
            notes.append(demand.note)
        return cls(loops, losses, budget, tuple(kept), objectives, capacities, demand, tuple(notes))

    @property
    def itl_p95_s(self) -> float:
        """The objective of the controller, which looks at quantiles of gaps and not at answers' means."""
        return quantile_objective_s(self.loops[self.demand.best], self.objectives)

    def words(self) -> str:
        rates, fastest = self.demand.rates, self.budget.fastest.name
        return (
            f"objectives: TTFT {self.objectives.ttft_s:.3f} s, {1e3 * self.objectives.itl_s:.1f} ms between tokens on average "
            f"({1e3 * self.itl_p95_s:.1f} ms for 95 % of gaps). Budget: an average loss of {self.budget.average:.2%}; {fastest} "
            f"is fastest and loses {self.losses[fastest]:.2%}. Calm {rates.calm_rps:.2f}, surge {rates.surge_rps:.2f} requests/s"
        )

    def plain(self) -> dict[str, Any]:
        """For the document."""
        rates, carries = self.demand.rates, self.capacities[self.demand.best]
        return {
            "objectives": {
                "ttft_s": round(self.objectives.ttft_s, 4), "mean_gap_ms": round(1e3 * self.objectives.itl_s, 3),
                "controller_gap_p95_ms": round(1e3 * self.itl_p95_s, 3),
            },
            "capacities": [
                {
                    "level": level.name, "quality_loss": round(self.losses[level.name], 6),
                    "capacity_rps": round(self.capacities[level], 3), "loops": [loop.row() for loop in loops],
                }
                for level, loops in self.loops.items()
            ],
            "budget": {
                "fastest_level": self.budget.fastest.name, "most": round(self.budget.most, 6),
                "average": round(self.budget.average, 6), "levels_within": [level.name for level in self.kept],
            },
            "load": {
                "calm_rps": round(rates.calm_rps, 3), "surge_rps": round(rates.surge_rps, 3),
                "calm_multiple": round(rates.calm_rps / carries, 3),
                "surge_multiple": round(rates.surge_rps / carries, 3), "multiples_of": self.demand.best.name,
            },
        }  # fmt: skip


def _given(derived: Objectives, options: SurgeOptions) -> Objectives:
    ttft_s, itl_ms = options.ttft_slo_s, options.itl_slo_ms
    return Objectives(derived.ttft_s if ttft_s is None else ttft_s, derived.itl_s if itl_ms is None else itl_ms / 1e3)


def _notes(
    loops: Mapping[Level, Sequence[Loop]], losses: Mapping[str, float], budget: Budget, ties: Sequence[Level],
    default_rps: float | None, default: EngineSettings,
) -> list[str]:  # fmt: skip
    """What a reader of the figures must know. default_rps: what the level that the fleet starts with carries, where measured."""
    found = []
    for level, own in loops.items():
        clients = ", ".join(str(loop.clients) for loop in own if loop.disturbed)
        if clients:
            found.append(
                f"other work disturbed the measurement of {level.name} at {clients} clients a node: what follows is off"
            )
    found += [
        f"{level.name} is about as fast as {budget.fastest.name} and loses {losses[level.name]:.2%}: which of them sets the "
        "quality budget is chance; --budget sets it by hand"
        for level in ties
    ]
    if default_rps == 0:
        found.append(
            f"{level_of(default).name}, which the fleet starts with, does not keep the objectives even for one client a node: "
            "the default misses in the calm as well, and so does trimtab until its first change is in force on every node"
        )
    if budget.average == 0:
        found.append("the fastest level loses nothing: there is no budget to spend, and no lossy level may be used")
    return found
