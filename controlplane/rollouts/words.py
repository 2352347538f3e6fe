"""Phrases that events, explanations and forms share."""

from collections.abc import Iterable, Mapping
from typing import Protocol

from inference_node.contract.settings import KnobValue

_SHOWN = 5


class Named(Protocol):
    @property
    def name(self) -> str: ...


def changes_words(changes: Mapping[str, tuple[KnobValue, KnobValue]]) -> str:
    """`max_batch_size 4 → 12, batch_wait_ms 0.0 → 4.0`."""
    return ", ".join(f"{knob} {old} → {new}" for knob, (old, new) in changes.items()) or "nothing differs"


def names_words(nodes: Iterable[Named]) -> str:
    """Up to five names, and how many more there are."""
    names = [node.name for node in nodes]
    shown = ", ".join(names[:_SHOWN]) or "no node"
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"
