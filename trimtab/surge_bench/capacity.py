"""What each level carries, measured in closed loops, and what follows from it before any policy runs: objectives and loads."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from inference_node.bench.figures import quantile
from trimtab.errors import CommandError
from trimtab.surge_bench.answer import Ending, Objectives, Outcome
from trimtab.surge_bench.budget import Budget
from trimtab.surge_bench.client import LEAD_S
from trimtab.surge_bench.level import Level
from trimtab.traffic.schedule import Rates

# Twice the gap and five times the wait of somebody who is alone: what the replay benchmark asks for as well.
GAPS, WAITS = 2.0, 5.0
CALM_SHARE = 0.5
# Where no level carries LITTLE_MORE times what the best one within the budget does, the surge is SMALL_SURGE times that.
LITTLE_MORE, SMALL_SURGE = 1.1, 1.15


@dataclass(frozen=True, slots=True)
class Loop:
    """One closed loop. `rate_rps` of all nodes together; times in seconds. gap_s: the mean of answers' mean gaps, gap_p95_s: of
    all gaps the 95 % quantile. `failed`: requests that were not answered in full.

    `disturbed`: other work than the fleet's took its share of the processors meanwhile.
    """

    clients: int
    rate_rps: float
    gap_s: float
    ttft_s: float
    ttft_p95_s: float
    requests: int
    failed: int
    gap_p95_s: float = 0.0
    disturbed: bool = False

    def keeps(self, objectives: Objectives) -> bool:
        return not self.failed and self.gap_s <= objectives.itl_s and self.ttft_p95_s <= objectives.ttft_s

    def row(self) -> dict[str, Any]:
        return {
            "clients_per_node": self.clients, "requests_per_s": round(self.rate_rps, 3),
            "gap_mean_ms": round(1e3 * self.gap_s, 2), "gap_p95_ms": round(1e3 * self.gap_p95_s, 2),
            "ttft_mean_ms": round(1e3 * self.ttft_s, 1), "ttft_p95_ms": round(1e3 * self.ttft_p95_s, 1),
            "requests": self.requests, "failed": self.failed, "disturbed": self.disturbed,
        }  # fmt: skip


Loops = Mapping[Level, Sequence[Loop]]


def loop_of(outcomes: Sequence[Outcome], clients: int, seconds: float, answer_tokens: float) -> Loop:
    """Rate: tokens that came within the window, over the mean length of an answer, so that nothing hangs on which requests end
    within it. Times: of requests sent within it, or of all where none was. Raises CommandError when nothing was answered."""
    answered = [each for each in outcomes if each.ending is Ending.ANSWERED]
    timed = [each for each in answered if each.due_s >= LEAD_S] or answered
    if not timed:
        why = next((each.detail for each in outcomes if each.detail), "no request was sent")
        raise CommandError(
            f"{clients} clients a node got no answer: {why}. The nodes' logs may tell more; --data-dir keeps them"
        )
    end_s = LEAD_S + seconds
    tokens = sum(each.tokens_by(end_s) - each.tokens_by(LEAD_S) for each in answered)
    waits = sorted(each.ttft_s for each in timed if each.ttft_s is not None)
    gaps = [each.gap_s for each in timed if each.gap_s is not None]
    every = sorted(gap for each in timed for gap in each.gaps_s)
    return Loop(
        clients, tokens / seconds / answer_tokens, statistics.fmean(gaps) if gaps else 0.0, statistics.fmean(waits),
        quantile(waits, 0.95), len(outcomes), len(outcomes) - len(answered), quantile(every, 0.95) if every else 0.0,
    )  # fmt: skip


def fastest_of(loops: Loops) -> Level:
    """The level that answers most requests a second, however long each takes."""
    return max(loops, key=lambda level: max(loop.rate_rps for loop in loops[level]))


def near_ties(loops: Loops, losses: Mapping[str, float]) -> list[Level]:
    """Levels that are as fast as the fastest but for what such short loops differ by, and lose something else."""
    peak = {level: max(loop.rate_rps for loop in own) for level, own in loops.items()}
    fastest = fastest_of(loops)
    return [
        level
        for level, rate in peak.items()
        if level != fastest and rate * LITTLE_MORE >= peak[fastest] and losses[level.name] != losses[fastest.name]
    ]


def keepers(loops: Loops, losses: Mapping[str, float], budget: Budget) -> list[Level]:
    """The levels that a fixed choice may take."""
    return [level for level in loops if budget.allows(losses[level.name])]


def objectives_of(loops: Loops, kept: Sequence[Level]) -> Objectives:
    """From one client a node at the level that decodes fastest of those that keep the budget."""
    alone = {level: min(loops[level], key=lambda loop: loop.clients) for level in kept}
    best = min(alone.values(), key=lambda loop: loop.gap_s)
    return Objectives(ttft_s=WAITS * best.ttft_s, itl_s=GAPS * best.gap_s)


def capacity_rps(loops: Sequence[Loop], objectives: Objectives) -> float:
    """The highest rate of a loop that keeps the objectives; 0 where none does."""
    return max((loop.rate_rps for loop in loops if loop.keeps(objectives)), default=0.0)


def quantile_objective_s(loops: Sequence[Loop], objectives: Objectives) -> float:
    """What the 95 % quantile of all gaps may be where their mean may be `objectives.itl_s`: as many times that as in the fullest
    loop that keeps the objectives. A prompt that is computed beside makes one gap in ten long, and the mean hardly."""
    kept = [loop for loop in loops if loop.keeps(objectives)]
    fullest = max(kept, key=lambda loop: loop.rate_rps, default=None)
    if fullest is None or fullest.gap_s <= 0:
        return objectives.itl_s
    return objectives.itl_s * max(fullest.gap_p95_s / fullest.gap_s, 1.0)


@dataclass(frozen=True, slots=True)
class Demand:
    """Requests per second over all nodes. `best`: the level that the multiples are of. `note`: what was not as intended."""

    rates: Rates
    best: Level
    note: str | None = None

    @classmethod
    def of(
        cls, capacities: Mapping[Level, float], kept: Sequence[Level], usable: Sequence[Level],
        calm: float | None, surge: float | None,
    ) -> "Demand":  # fmt: skip
        """usable: the levels that the controller may turn to. calm, surge: multiples of what the best level that keeps the budget
        carries; None for the rules' own.

        Raises CommandError where nothing that keeps the budget keeps the objectives.
        """
        best = max(kept, key=lambda level: capacities[level])
        carries = capacities[best]
        if carries <= 0:
            raise CommandError(
                "no level within the quality budget keeps the objectives, not even for one client a node: give "
                "longer ones with --ttft-slo-s and --itl-slo-ms"
            )
        widest = max(usable, key=lambda level: capacities[level])
        ratio, note = capacities[widest] / carries, None
        multiple = ratio**0.5
        if ratio < LITTLE_MORE:
            multiple = SMALL_SURGE
            note = (
                f"no level that may be used carries more than {ratio:.2f} times what {best.name} carries within the objectives "
                f"({widest.name} does): turning levels has next to nothing to win, and the surge is {SMALL_SURGE:g} times that"
            )
        rates = Rates((calm or CALM_SHARE) * carries, (surge or multiple) * carries)
        return cls(rates, best, None if surge else note)
