"""A model's weights in one precision, laid out for the forward. Several may be in memory at once; one of them runs."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from inference_node.contract.settings import Precision
from inference_node.kernels.linear import Linear, PackedLinear
from inference_node.kernels.rows import ANY_SIZE, RowPlan, RowSizes, find_equal_sizes
from inference_node.model.checkpoint import Checkpoint, to_dtype
from inference_node.model.errors import PrecisionUnsupported
from inference_node.model.spec import ModelSpec
from inference_node.model.tensors import Matrix, ModelTensors
from inference_node.quantization import int8
from inference_node.quantization.int8 import Int8Linear

# Logits are computed for this many rows at a time at most: finding equal sizes for a wide head is costly beyond.
HEAD_ROWS = 64


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """What a precision computes with: dtype of matrices as stored before packing, of activations, and of the KV cache."""

    weights: torch.dtype
    activations: torch.dtype
    kv: torch.dtype
    bytes_per_weight: float


# int8 products return fp32, and keeping that between them saves rounding and conversions; attention runs in bf16 either way.
ARITHMETIC: dict[Precision, Arithmetic] = {
    Precision.FP32: Arithmetic(torch.float32, torch.float32, torch.float32, 4.0),
    Precision.BF16: Arithmetic(torch.bfloat16, torch.bfloat16, torch.bfloat16, 2.0),
    Precision.INT8: Arithmetic(torch.float32, torch.float32, torch.bfloat16, 1.02),
}


def supported_precisions() -> tuple[Precision, ...]:
    """What this machine and torch can run, widest first."""
    return tuple(p for p in ARITHMETIC if p is not Precision.INT8 or int8.is_supported())


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """Norms in fp32; those of heads, and of what attention and MLP give back, only where the family has them."""

    attention_norm: Tensor
    qkv: Linear
    q_norm: Tensor | None
    k_norm: Tensor | None
    output: Linear
    mlp_norm: Tensor
    gate_up: Linear
    down: Linear
    attention_out_norm: Tensor | None = None
    mlp_out_norm: Tensor | None = None


@dataclass(frozen=True, slots=True)
class WeightStore:
    """All weights of one precision. `rows` and `head_rows` say to how many rows a step and its logits are padded.

    head_matrix: [V, C], the head as it was before packing, where its product rounds logits to bf16; else None.
    """

    precision: Precision
    arithmetic: Arithmetic
    embedding: Tensor
    layers: tuple[LayerWeights, ...]
    norm: Tensor
    head: Linear
    head_matrix: Tensor | None
    rows: RowPlan
    head_rows: RowPlan
    nbytes: int


def estimate_bytes(spec: ModelSpec, precision: Precision) -> int:
    """Memory that building a store takes at its peak: the store, its embedding, and one matrix in passing."""
    ends = spec.vocab_size * spec.hidden_size
    return int(spec.num_weights * ARITHMETIC[precision].bytes_per_weight) + 2 * ends + 8 * ends


def build(
    checkpoint: Checkpoint,
    spec: ModelSpec,
    precision: Precision,
    progress: Callable[[float], None] = lambda share: None,
) -> WeightStore:
    """Reads, converts and packs all weights; seconds for a small model. `progress` may raise to give up midway.

    Raises ModelInvalid when the checkpoint does not fit the spec, PrecisionUnsupported.
    """
    if precision not in supported_precisions():
        raise PrecisionUnsupported(
            f"precision {precision} is not available here; this node has {', '.join(supported_precisions())}"
        )
    arithmetic = ARITHMETIC[precision]
    tensors = ModelTensors(checkpoint, spec)
    packer = _Packer(tensors, arithmetic, precision)
    layers: list[LayerWeights] = []
    for layer in range(spec.num_layers):
        progress(layer / (spec.num_layers + 1))
        layers.append(packer.layer(layer))
    progress(spec.num_layers / (spec.num_layers + 1))
    embedding = packer.embedding()
    matrix = packer.head_matrix(embedding)
    head = packer.linear(matrix, None)
    rows, head_rows = _plan_rows(layers, head, arithmetic.activations)
    kept = matrix if arithmetic.activations is torch.bfloat16 else None
    linears = [linear for w in layers for linear in (w.qkv, w.output, w.gate_up, w.down)]
    nbytes = embedding.nbytes + head.nbytes + sum(linear.nbytes for linear in linears)
    if kept is not None and kept is not embedding:
        nbytes += kept.nbytes
    progress(1.0)
    return WeightStore(
        precision=precision,
        arithmetic=arithmetic,
        embedding=embedding,
        layers=tuple(layers),
        norm=tensors.norm(),
        head=head,
        head_matrix=kept,
        rows=rows,
        head_rows=head_rows,
        nbytes=nbytes,
    )


class _Packer:
    """Brings tensors into the layout of one precision."""

    def __init__(self, tensors: ModelTensors, arithmetic: Arithmetic, precision: Precision) -> None:
        self._tensors, self._arithmetic, self._precision = tensors, arithmetic, precision

    def layer(self, index: int) -> LayerWeights:
        found = self._tensors.layer(index)
        return LayerWeights(
            attention_norm=found.attention_norm,
            qkv=self._packed(found.qkv),
            q_norm=found.q_norm,
            k_norm=found.k_norm,
            output=self._packed(found.output),
            mlp_norm=found.mlp_norm,
            gate_up=self._packed(found.gate_up),
            down=self._packed(found.down),
            attention_out_norm=found.attention_out_norm,
            mlp_out_norm=found.mlp_out_norm,
        )

    def embedding(self) -> Tensor:
        return to_dtype(self._tensors.embedding(), self._arithmetic.weights)

    def head_matrix(self, embedding: Tensor) -> Tensor:
        """[V, C], the embedding itself when the head is tied."""
        head = self._tensors.head()
        return embedding if head is None else to_dtype(head, self._arithmetic.weights)

    def _packed(self, matrix: Matrix) -> Linear:
        bias = None if matrix.bias is None else to_dtype(matrix.bias, self._arithmetic.weights)
        return self.linear(to_dtype(matrix.weight, self._arithmetic.weights), bias)

    def linear(self, weight: Tensor, bias: Tensor | None) -> Linear:
        if self._precision is Precision.INT8:
            return Int8Linear(weight, bias)
        return PackedLinear(weight, bias)


def _plan_rows(layers: list[LayerWeights], head: Linear, dtype: torch.dtype) -> tuple[RowPlan, RowPlan]:
    """Finds the equal row counts of each shape once, on the first layer, and gives them to all layers."""
    head.rows = _sizes(head, dtype, HEAD_ROWS)
    products: list[RowSizes] = []
    for kind in ("qkv", "output", "gate_up", "down"):
        linears: Iterable[Linear] = [getattr(layer, kind) for layer in layers]
        sizes = _sizes(getattr(layers[0], kind), dtype, None)
        for linear in linears:
            linear.rows = sizes
        products.append(sizes)
    return RowPlan(products), RowPlan([head.rows])


def _sizes(linear: Linear, dtype: torch.dtype, largest: int | None) -> RowSizes:
    if not isinstance(linear, PackedLinear):
        return ANY_SIZE  # sums of whole numbers have no order
    if largest is None:
        return find_equal_sizes(linear.product, linear.in_features, dtype)
    return find_equal_sizes(linear.product, linear.in_features, dtype, largest)
