"""How bad answers may get, and what the records say of a level: allowed, too bad, or not known yet. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from inference_node.contract.quality import QualityRecord, is_full_precision
from inference_node.contract.settings import EngineSettings


class Standing(StrEnum):
    """What is known of a level: of precision, KV cache and pruning."""

    FULL = "full"  # it is full precision
    CERTIFIED = "certified"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The most that answers may lose; fields as in the contract's QualityRecord."""

    max_perplexity_ratio: float
    max_kl: float

    def holds(self, record: QualityRecord) -> bool:
        return record.perplexity_ratio <= self.max_perplexity_ratio and record.kl_mean <= self.max_kl

    def complaint(self, record: QualityRecord) -> str:
        """What a record that does not hold breaks, in figures."""
        broken = []
        if record.perplexity_ratio > self.max_perplexity_ratio:
            ratio, most = record.perplexity_ratio, self.max_perplexity_ratio
            broken.append(f"perplexity is {ratio:.3f} times full precision's, allowed are {most:g}")
        if record.kl_mean > self.max_kl:
            broken.append(f"the mean KL divergence is {record.kl_mean:.3f} nats, allowed are {self.max_kl:g}")
        return " and ".join(broken)


@dataclass(frozen=True, slots=True)
class Judgement:
    """`record` is the one that decides; None for full precision and for what is not known."""

    standing: Standing
    record: QualityRecord | None = None


def judge(settings: EngineSettings, records: Iterable[QualityRecord], ceiling: Ceiling) -> Judgement:
    """Taken for granted is that more pruning, or narrower keys and values, give no better answers: a level holds when a harsher
    one of its precision holds, and is too bad when a milder one is. Where records disagree, the one of this very level wins,
    then one that holds, then the nearest in pruning.
    """
    if is_full_precision(settings):
        return Judgement(Standing.FULL)
    level = (settings.precision, settings.kv_precision, settings.pruning_threshold)
    mine = sorted(records, key=lambda record: abs(record.pruning_threshold - settings.pruning_threshold))
    for record in mine:
        if record.level == level:
            return Judgement(Standing.CERTIFIED if ceiling.holds(record) else Standing.FAILED, record)
    for record in mine:
        if record.is_harsher(*level) and ceiling.holds(record):
            return Judgement(Standing.CERTIFIED, record)
    for record in mine:
        if record.is_milder(*level) and not ceiling.holds(record):
            return Judgement(Standing.FAILED, record)
    return Judgement(Standing.UNKNOWN)
