"""What nodes tell of the answers that they scored again, good and bad."""

from enum import StrEnum

from controlplane.fleets.models import Node
from inference_node.contract.served import AnswerMix, ServedQuality, ServedSample
from inference_node.contract.settings import Precision


class Answers(StrEnum):
    """Of a canary: as good as full precision's, far from them, too few to tell, not numbers, or not told."""

    GOOD = "good"
    BAD = "bad"
    FEW = "few"
    BROKEN = "broken"
    UNABLE = "unable"
    SILENT = "silent"


def samples(count: int, kl: float, agreed: int = 48) -> tuple[ServedSample, ...]:
    """Requests of 50 places whose divergences spread around `kl`."""
    return tuple(ServedSample(tokens=50, kl=kl * (0.5 + (k % 11) / 10), agreed=agreed) for k in range(count))


def told(answers: Answers, generation: int = 2) -> ServedQuality | None:
    """As a heartbeat carries it; the default is the first generation that a rollout sends in memory."""
    if answers is Answers.SILENT:
        return None
    found = {
        Answers.GOOD: samples(30, 0.01),
        Answers.BAD: samples(30, 1.2, agreed=20),
        Answers.FEW: samples(5, 0.01),
    }
    return ServedQuality(
        generation=generation,
        precision=Precision.INT8,
        pruning_threshold=0.0,
        samples=found.get(answers, ()),
        broken=int(answers is Answers.BROKEN),
        unable="no memory for full precision" if answers is Answers.UNABLE else None,
        before=AnswerMix(),
        since=AnswerMix(),
    )


def told_of(node: Node, answers: Answers) -> ServedQuality | None:
    """What a node tells that runs what it was asked to score; None where nobody asked."""
    if node.watch is None or node.rejected_generation == node.desired_generation:
        return None
    return told(answers, node.watch["generation"])
