"""What a run was worth: the share within the objectives, what the answers lost, and the course of it."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from inference_node.bench.figures import quantile
from trimtab.surge_bench.answer import Ending, Objectives, Outcome
from trimtab.surge_bench.load import Shape

COURSE_S = 10.0
# Of the normal distribution, for an interval of 95 %.
_Z = 1.959964


def wilson(met: int, total: int) -> tuple[float, float]:
    """95 % interval of a share (E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927).

    It takes requests for independent; in a queue they are not, so the truth is wider.
    """
    if total == 0:
        return 0.0, 1.0
    share, z2 = met / total, _Z * _Z
    middle = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = _Z / (1 + z2 / total) * math.sqrt(share * (1 - share) / total + z2 / (4 * total * total))
    return max(0.0, middle - half), min(1.0, middle + half)


def quality_loss(outcomes: Sequence[Outcome], losses: Mapping[str, float]) -> float | None:
    """Of an answer token, on average. An answer whose level changed on the way counts as equal parts of each.

    None where no token came, or some came of a level that the nodes have no record of.
    """
    lost, tokens = 0.0, 0
    for outcome in outcomes:
        if not outcome.tokens:
            continue
        if not outcome.levels or any(level not in losses for level in outcome.levels):
            return None
        lost += outcome.tokens * sum(losses[level] for level in outcome.levels) / len(outcome.levels)
        tokens += outcome.tokens
    return lost / tokens if tokens else None


def scored(outcomes: Sequence[Outcome], shape: Shape) -> list[Outcome]:
    """Without those of the warm-up."""
    return [outcome for outcome in outcomes if outcome.due_s >= shape.warm_s]


def figures(
    outcomes: Sequence[Outcome], objectives: Objectives, losses: Mapping[str, float], scored_s: float
) -> dict[str, Any]:
    """outcomes: the scored ones. scored_s: seconds that they came in, over all repeats."""
    met = sum(outcome.meets(objectives) for outcome in outcomes)
    endings = Counter(outcome.ending for outcome in outcomes)
    levels: Counter[str] = Counter()
    for outcome in outcomes:
        for level in outcome.levels:
            levels[level] += outcome.tokens / len(outcome.levels)  # type: ignore[assignment]  # Counter's values may be floats
    tokens = sum(levels.values())
    loss = quality_loss(outcomes, losses)
    late = sorted(outcome.late_s for outcome in outcomes)
    return {
        "requests": len(outcomes),
        "slo_attainment": round(met / len(outcomes), 5) if outcomes else None,
        "slo_attainment_interval": [round(bound, 5) for bound in wilson(met, len(outcomes))],
        "goodput_rps": round(met / scored_s, 4),
        "ttft_s": _quantiles([each.ttft_s for each in outcomes if each.ttft_s is not None], 4),
        "gap_ms": _quantiles([1e3 * each.gap_s for each in outcomes if each.gap_s is not None], 2),
        "refused": endings[Ending.REFUSED],
        "failed": endings[Ending.FAILED],
        "cut_short": endings[Ending.CUT_SHORT],
        "quality_loss": None if loss is None else round(loss, 6),
        "token_share_by_level": {level: round(count / tokens, 4) for level, count in levels.most_common()},
        "client_late_p99_ms": round(1e3 * quantile(late, 0.99), 2) if late else None,
    }


def course(outcomes: Sequence[Outcome], objectives: Objectives, shape: Shape) -> list[dict[str, Any]]:
    """Every COURSE_S seconds: requests per second, waiting for their first token at the end of it, share within objectives.

    The warm-up is part of it, with times below 0.
    """
    found, start_s = [], 0.0
    while start_s < shape.total_s:
        end_s = min(start_s + COURSE_S, shape.total_s)
        own = [outcome for outcome in outcomes if start_s <= outcome.due_s < end_s]
        waiting = sum(_waits(outcome, end_s) for outcome in outcomes)
        met = sum(outcome.meets(objectives) for outcome in own)
        found.append({
            "t_s": round(start_s - shape.warm_s, 1), "offered_rps": round(len(own) / (end_s - start_s), 3),
            "waiting": waiting, "attainment": round(met / len(own), 4) if own else None,
        })  # fmt: skip
        start_s = end_s
    return found


def _waits(outcome: Outcome, at_s: float) -> bool:
    """Of a request that got no token it is not known when it ended: it counts in its own stretch alone."""
    if outcome.due_s > at_s:
        return False
    return at_s - outcome.due_s < COURSE_S if outcome.first_s is None else outcome.first_s > at_s


def _quantiles(values: Sequence[float], digits: int) -> dict[str, float | None]:
    ordered = sorted(values)
    shares = (("p50", 0.5), ("p95", 0.95))
    return {name: round(quantile(ordered, share), digits) if ordered else None for name, share in shares}
