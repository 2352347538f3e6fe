"""Random live changes of a node's settings, one knob at a time, and what became of each."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from inference_node.contract.settings import KnobValue

# Values that a tuner would really choose from; what the node lacks is left out.
_BATCH_SIZES = (4, 6, 8, 12, 16, 24, 32)
_WAITS_MS = (0.0, 1.0, 2.0, 5.0, 10.0)
_BUDGETS = (128, 256, 512, 1024, 2048)
_PRUNINGS = (0.0, 0.1, 0.25, 0.4)


@dataclass(frozen=True, slots=True)
class Change:
    """`kind` names the knob; of a precision, also from where to where, since each way costs differently."""

    kind: str
    knob: str
    value: KnobValue


@dataclass(frozen=True, slots=True)
class Outcome:
    """One change as asked and as it came true. Times on time.perf_counter; `refusal` is set when the node said no."""

    change: Change
    asked_s: float
    done_s: float
    steps: int | None = None
    refusal: str | None = None

    @property
    def took_ms(self) -> float:
        return 1000 * (self.done_s - self.asked_s)


def values_of(capabilities: Mapping[str, Any], precisions: Sequence[str] | None) -> dict[str, tuple[KnobValue, ...]]:
    """Knob to the values that this node can take. precisions: only these; None: every quick one that it has.
    A knob with less than two of them is left out.
    """
    offered = [str(precision) for precision in capabilities["precisions"]]
    # fp32 is there for reference: twice the memory, and no tuner goes there under load.
    wanted = [p for p in offered if p != "fp32"] if precisions is None else [p for p in precisions if p in offered]
    choices: dict[str, tuple[KnobValue, ...]] = {
        "max_batch_size": tuple(size for size in _BATCH_SIZES if size <= capabilities["max_batch_size"]),
        "batch_wait_ms": _WAITS_MS,
        "max_batched_tokens": tuple(size for size in _BUDGETS if size <= capabilities["max_batched_tokens"]),
        "pruning_threshold": _PRUNINGS,
        "precision": tuple(wanted),
    }
    return {knob: values for knob, values in choices.items() if len(values) > 1}


class ChangeSource:
    """Draws changes; every knob comes equally often. The same seed and the same course of settings give the same changes."""

    def __init__(self, values: Mapping[str, Sequence[KnobValue]], seed: int) -> None:
        self._values = values
        self._random = random.Random(seed)
        self._knobs: list[str] = []

    def draw(self, settings: Mapping[str, KnobValue]) -> Change:
        """To another value than `settings`, which are in force, have."""
        if not self._knobs:
            self._knobs = self._random.sample(list(self._values), len(self._values))
        knob = self._knobs.pop()
        value = self._random.choice([value for value in self._values[knob] if value != settings[knob]])
        kind = f"precision {settings[knob]} to {value}" if knob == "precision" else knob
        return Change(kind, knob, value)
