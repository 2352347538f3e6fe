"""A step of a transformers module: its rows as one sequence, each attending over the pages of the sequence that it belongs to."""

import inspect
from typing import Any

import torch
from torch import Tensor

from inference_node.model.foreign.attention import PagedAttention, taken_by
from inference_node.model.forward import StepInputs
from inference_node.model.kv_cache import KvCache
from inference_node.model.spec import ModelSpec


class ForeignForward:
    """The forward of one module; see `store.ForeignStore`."""

    def __init__(self, spec: ModelSpec, module: Any) -> None:
        self._windows, self._module = spec.windows, module
        self._keeps_chosen = "logits_to_keep" in inspect.signature(module.forward).parameters

    @torch.inference_mode()
    def __call__(self, inputs: StepInputs, kv: KvCache) -> Tensor:
        # Modules take no empty choice.
        chosen = inputs.sampled if inputs.sampled.numel() else torch.zeros(1, dtype=torch.int64)
        with taken_by(PagedAttention(kv, inputs.slots, inputs.groups, self._windows)):
            logits: Tensor = self._module(
                input_ids=inputs.tokens[None],
                position_ids=inputs.positions[None],
                use_cache=False,
                **({"logits_to_keep": chosen} if self._keeps_chosen else {}),
            ).logits[0]
        if not self._keeps_chosen:
            logits = logits.index_select(0, chosen)
        return logits[: inputs.sampled.numel()].float()
