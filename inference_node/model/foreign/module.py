"""Loads a transformers module, and puts our products in the place of its own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModelForCausalLM
from transformers.utils import logging

from inference_node.contract.settings import Precision
from inference_node.kernels.linear import PackedLinear
from inference_node.kernels.rows import RowPlan, RowSizes, find_equal_sizes
from inference_node.model.errors import ModelInvalid, ModelUnsupported, PrecisionUnsupported
from inference_node.model.foreign.attention import NAME
from inference_node.model.foreign.forward import ForeignForward
from inference_node.model.foreign.store import LIMITS, PRECISIONS, ForeignStore
from inference_node.model.forward import settle_ties
from inference_node.model.spec import ModelSpec
from inference_node.model.weights import ARITHMETIC, HEAD_ROWS


def build(
    folder: Path, spec: ModelSpec, precision: Precision, progress: Callable[[float], None] = lambda share: None
) -> ForeignStore:
    """Loads the module and packs its products. `progress` may raise to give up midway.

    Raises ModelInvalid when the weights do not fit, PrecisionUnsupported. Whether the module computes rightly over paged keys and
    values is for `check.check` to say.
    """
    if precision not in PRECISIONS:
        raise PrecisionUnsupported(f"precision {precision} is not available: {LIMITS}")
    progress(0.0)
    arithmetic = ARITHMETIC[precision]
    module = _load(folder, arithmetic.weights)
    progress(0.5)
    nbytes = sum(parameter.nbytes for parameter in module.parameters())
    head = module.get_output_embeddings()
    if head is not None and (
        arithmetic.weights is torch.bfloat16 or head.weight is module.get_input_embeddings().weight
    ):
        nbytes += head.weight.nbytes  # packed, and kept as it was besides: as the embedding, or to settle ties with
    sizes: dict[tuple[int, int, bool], RowSizes] = {}
    linears = [(name, part) for name, part in module.named_modules() if type(part) is nn.Linear]
    for done, (name, linear) in enumerate(linears):
        progress(0.5 + 0.4 * done / len(linears))
        parent, _, place = name.rpartition(".")
        setattr(module.get_submodule(parent), place, _packed(linear, sizes, is_head=linear is head))
    return ForeignStore(precision, arithmetic, module, ForeignForward(spec, module), nbytes, RowPlan([]))


class _Product(nn.Module):
    """nn.Linear's place in the module. x: [..., K]; pads to a number of rows that keeps each row's result its own."""

    def __init__(self, linear: PackedLinear) -> None:
        super().__init__()
        self._linear, self._plan = linear, RowPlan([linear.rows])
        self.in_features, self.out_features = linear.in_features, linear.out_features

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, self.in_features)
        return self._rows(rows).view(*x.shape[:-1], self.out_features)

    def _rows(self, rows: Tensor) -> Tensor:
        count = rows.shape[0]
        padding = self._plan.pad(count) - count
        padded = functional.pad(rows, (0, 0, 0, padding)) if padding else rows
        return self._linear(padded)[:count]


class _Head(_Product):
    """The last product: logits in fp32, the largest of each row exact (see forward.settle_ties)."""

    def __init__(self, linear: PackedLinear, matrix: Tensor | None) -> None:
        super().__init__(linear)
        self._matrix = matrix

    def _rows(self, rows: Tensor) -> Tensor:
        parts = [super(_Head, self)._rows(part) for part in torch.split(rows, HEAD_ROWS)]
        scores = parts[0] if len(parts) == 1 else torch.cat(parts)
        return scores.float() if self._matrix is None else settle_ties(scores, rows, self._matrix)


def _packed(linear: nn.Linear, sizes: dict[tuple[int, int, bool], RowSizes], *, is_head: bool) -> _Product:
    weight, bias = linear.weight.detach(), None if linear.bias is None else linear.bias.detach()
    packed = PackedLinear(weight, bias)
    shape = (packed.out_features, packed.in_features, is_head)
    if shape not in sizes:
        largest = {"largest": HEAD_ROWS} if is_head else {}
        sizes[shape] = find_equal_sizes(packed.product, packed.in_features, weight.dtype, **largest)
    packed.rows = sizes[shape]
    if not is_head:
        return _Product(packed)
    # A bias would have to be added to what is computed anew; no head that ties matter for has one.
    return _Head(packed, weight if weight.dtype == torch.bfloat16 and bias is None else None)


def _load(folder: Path, dtype: torch.dtype) -> Any:
    logging.disable_progress_bar()
    try:
        module, found = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            attn_implementation=NAME,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    # transformers raises anything, down to its Rust parts' bare Exception.
    except Exception as error:  # noqa: BLE001
        raise ModelUnsupported(f"{folder}: transformers cannot load the model: {error}") from None
    # transformers fills what is missing with random numbers, and goes on.
    if missing := sorted(found["missing_keys"]) or sorted(str(key) for key in found["mismatched_keys"]):
        raise ModelInvalid(
            f"the weights hold no tensor {missing[0]!r}, which a model of type {module.config.model_type!r} has; "
            "the folder does not fit its config.json"
        )
    module.eval()
    module.requires_grad_(False)
    return module
