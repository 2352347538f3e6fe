"""A level of arithmetic: a weight format and how much is pruned. Named as `int8` or `int8@0.25`, found again in answers."""

from collections.abc import Sequence
from dataclasses import dataclass

from inference_node.bench.contender import parse_numerics
from inference_node.contract.settings import EngineSettings, KnobValue, Precision
from inference_node.errors import Invalid
from trimtab.errors import UsageError

_MARK = "fp_"


@dataclass(frozen=True, slots=True)
class Level:
    """`pruning`: share of the weights to do without, 0 to 0.7."""

    precision: Precision
    pruning: float = 0.0

    @property
    def name(self) -> str:
        return self.precision.value + (f"@{self.pruning:g}" if self.pruning else "")

    @property
    def knobs(self) -> dict[str, KnobValue]:
        return {"precision": self.precision.value, "pruning_threshold": self.pruning}

    def of(self, settings: EngineSettings) -> EngineSettings:
        """The same settings at this level."""
        return settings.replace(**self.knobs)


def level_of(settings: EngineSettings) -> Level:
    return Level(settings.precision, settings.pruning_threshold)


def parse_levels(text: str, option: str) -> tuple[Level, ...]:
    """`bf16,int8,int8@0.25`. Raises UsageError."""
    return tuple(dict.fromkeys(parse_level(part, option) for part in text.split(",")))


def parse_level(text: str, option: str) -> Level:
    """Raises UsageError."""
    try:
        level = Level(*parse_numerics(text.strip()))
        level.of(EngineSettings())
    except (Invalid, ValueError):
        raise UsageError(f"{option} {text}: write levels as bf16, int8 or int8@0.25, pruned by at most 0.7") from None
    return level


def levels_in(fingerprint: str | None) -> tuple[str, ...]:
    """Names of the levels that an answer's `system_fingerprint` tells of, in order; empty for one that is not ours.

    A node writes `fp_` and the key of each arithmetic (`EngineSettings.numerics_key`), with `>` where it changed on the way.
    """
    if fingerprint is None or not fingerprint.startswith(_MARK):
        return ()
    return tuple(_name(part.split("|")) for part in fingerprint.removeprefix(_MARK).split(">"))


def _name(parts: Sequence[str]) -> str:
    try:
        precision, kv, pruning = parts
        name = Level(Precision(precision), float(pruning)).name
    except ValueError:
        return "|".join(parts)
    return name if kv == "model" else f"{name}, {kv} keys and values"
