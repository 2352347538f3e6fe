"""What transformers' modules call for attention here: one name in its registry, and whatever takes the calls of this thread.

Letters: T rows of the step, H query heads, Hk key heads, D head dim.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from inference_node.kernels.attention import AttentionGroup, attend
from inference_node.model.kv_cache import KvCache

NAME = "trimtab_paged"


class Attention(Protocol):
    """Attends for one call of one layer. query: [1, H, T, D]; key, value: [1, Hk, T, D], the step's own; returns [1, T, H, D]."""

    def __call__(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scale: float | None,
        options: Mapping[str, Any],
    ) -> Tensor: ...


_taking = threading.local()


@contextmanager
def taken_by(attention: Attention) -> Iterator[None]:
    """Within it, calls of this thread's modules go to `attention`."""
    _taking.attention = attention
    try:
        yield
    finally:
        del _taking.attention


class PagedAttention:
    """Of one step: writes its keys and values into the pool and attends over all that the sequences have there.

    windows: by layer, in the order in which the module calls them.
    """

    def __init__(
        self, kv: KvCache, slots: Tensor, groups: Mapping[int, tuple[AttentionGroup, ...]], windows: tuple[int, ...]
    ) -> None:
        self._kv, self._slots, self._groups, self._windows = kv, slots, groups, windows
        self._layer = 0

    def __call__(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scale: float | None,
        options: Mapping[str, Any],
    ) -> Tensor:
        layer = self._layer
        self._layer += 1
        dtype = self._kv.dtype
        self._kv.write(layer, self._slots, torch.stack((key[0], value[0])).permute(2, 0, 1, 3).to(dtype))
        window = self._windows[layer] if self._windows else 0
        rows = query[0].transpose(0, 1).to(dtype)
        mixed = attend(rows, self._kv.pages[layer], self._groups[window], scale)
        return mixed.to(query.dtype).view(1, *rows.shape)


@dataclass(frozen=True, slots=True)
class Call:
    """What one layer asks of attention; strange names what paged attention here does not do, or is empty."""

    num_heads: int
    num_key_heads: int
    head_dim: int
    window: int
    strange: str


class Recorder:
    """Takes the calls of a module on the meta device, where nothing is computed, and keeps what they were like."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def __call__(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scale: float | None,
        options: Mapping[str, Any],
    ) -> Tensor:
        self.calls.append(
            Call(
                num_heads=query.shape[1],
                num_key_heads=key.shape[1],
                head_dim=query.shape[3],
                window=int(options.get("sliding_window") or 0),
                strange=_strange(module, query, key, value, options),
            )
        )
        return query.new_empty(1, query.shape[2], query.shape[1], value.shape[3])


def _strange(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, options: Mapping[str, Any]) -> str:
    if not getattr(module, "is_causal", True):
        return "its tokens see later ones"
    if key.shape != value.shape or query.shape[2:] != key.shape[2:] or query.shape[1] % key.shape[1]:
        return "its queries, keys and values differ in shape"
    # The mask is none of transformers' own making, since our name has no mask function there: it is the family's own bias.
    for option, what in (
        ("attention_mask", "adds to the scores"),
        ("softcap", "caps the scores"),
        ("s_aux", "has attention sinks"),
        ("position_bias", "adds to the scores"),
    ):
        if options.get(option) is not None:
            return f"its attention {what} ({option})"
    return ""


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """The registry's form: returns [1, T, H, D] and no weights."""
    taking: Attention = _taking.attention
    return taking(module, query, key, value, scaling, {**options, "attention_mask": attention_mask}), None


AttentionInterface.register(NAME, _attention)
