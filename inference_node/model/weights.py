"""A model's weights in one precision, laid out for the forward. Several may be in memory at once; one of them runs."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from inference_node.contract.settings import Precision
from inference_node.kernels.linear import Linear, PackedLinear
from inference_node.kernels.rotary import interleave_pairs
from inference_node.kernels.rows import ANY_SIZE, RowPlan, RowSizes, find_equal_sizes
from inference_node.model.checkpoint import Checkpoint, to_dtype
from inference_node.model.errors import PrecisionUnsupported
from inference_node.model.spec import ModelSpec
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
    """Norms in fp32; q_norm and k_norm only where the family has them."""

    attention_norm: Tensor
    qkv: Linear
    q_norm: Tensor | None
    k_norm: Tensor | None
    output: Linear
    mlp_norm: Tensor
    gate_up: Linear
    down: Linear


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
    reader = _Reader(checkpoint, spec, ARITHMETIC[precision], precision)
    layers: list[LayerWeights] = []
    for layer in range(spec.num_layers):
        progress(layer / (spec.num_layers + 1))
        layers.append(reader.layer(layer))
    progress(spec.num_layers / (spec.num_layers + 1))
    embedding = reader.embedding()
    matrix = reader.head_matrix(embedding)
    head = reader.linear(matrix, None)
    rows, head_rows = _plan_rows(layers, head, reader.arithmetic.activations)
    kept = matrix if reader.arithmetic.activations is torch.bfloat16 else None
    linears = [linear for w in layers for linear in (w.qkv, w.output, w.gate_up, w.down)]
    nbytes = embedding.nbytes + head.nbytes + sum(linear.nbytes for linear in linears)
    if kept is not None and kept is not embedding:
        nbytes += kept.nbytes
    progress(1.0)
    return WeightStore(
        precision=precision,
        arithmetic=reader.arithmetic,
        embedding=embedding,
        layers=tuple(layers),
        norm=reader.norm("model.norm"),
        head=head,
        head_matrix=kept,
        rows=rows,
        head_rows=head_rows,
        nbytes=nbytes,
    )


class _Reader:
    def __init__(self, checkpoint: Checkpoint, spec: ModelSpec, arithmetic: Arithmetic, precision: Precision) -> None:
        self._checkpoint = checkpoint
        self._spec = spec
        self.arithmetic = arithmetic
        self._precision = precision

    def layer(self, layer: int) -> LayerWeights:
        spec, name = self._spec, f"model.layers.{layer}"
        hidden, middle, dim = spec.hidden_size, spec.intermediate_size, spec.head_dim
        parts = (("q", spec.num_heads), ("k", spec.num_key_heads), ("v", spec.num_key_heads))
        qkv = [self._matrix(f"{name}.self_attn.{p}_proj.weight", (h * dim, hidden)) for p, h in parts]
        qkv_bias = None
        if spec.qkv_bias:
            biases = [self._matrix(f"{name}.self_attn.{p}_proj.bias", (h * dim,)) for p, h in parts]
            qkv_bias = torch.cat(self._reordered(biases))
        gate_up = [self._matrix(f"{name}.mlp.{p}_proj.weight", (middle, hidden)) for p in ("gate", "up")]
        gate_up_bias = None
        if spec.mlp_bias:
            gate_up_bias = torch.cat([self._matrix(f"{name}.mlp.{p}_proj.bias", (middle,)) for p in ("gate", "up")])
        return LayerWeights(
            attention_norm=self.norm(f"{name}.input_layernorm"),
            qkv=self.linear(torch.cat(self._reordered(qkv)), qkv_bias),
            q_norm=self._head_norm(f"{name}.self_attn.q_norm"),
            k_norm=self._head_norm(f"{name}.self_attn.k_norm"),
            output=self._plain(f"{name}.self_attn.o_proj", hidden, spec.num_heads * dim, has_bias=spec.output_bias),
            mlp_norm=self.norm(f"{name}.post_attention_layernorm"),
            gate_up=self.linear(torch.cat(gate_up), gate_up_bias),
            down=self._plain(f"{name}.mlp.down_proj", hidden, middle, has_bias=spec.mlp_bias),
        )

    def embedding(self) -> Tensor:
        shape = (self._spec.vocab_size, self._spec.hidden_size)
        return self._matrix("model.embed_tokens.weight", shape)

    def head_matrix(self, embedding: Tensor) -> Tensor:
        """[V, C], the embedding itself when the head is tied."""
        tied = self._spec.tied_head or "lm_head.weight" not in self._checkpoint
        return embedding if tied else self._matrix("lm_head.weight", tuple(embedding.shape))

    def norm(self, name: str) -> Tensor:
        return self._checkpoint.read(f"{name}.weight", (self._spec.hidden_size,)).float()

    def _head_norm(self, name: str) -> Tensor | None:
        if not self._spec.qk_norm:
            return None
        return interleave_pairs(self._checkpoint.read(f"{name}.weight", (self._spec.head_dim,)).float(), 1)

    def _reordered(self, qkv: list[Tensor]) -> list[Tensor]:
        q, k, v = qkv
        return [interleave_pairs(q, self._spec.num_heads), interleave_pairs(k, self._spec.num_key_heads), v]

    def _plain(self, name: str, out_features: int, in_features: int, *, has_bias: bool) -> Linear:
        bias = self._matrix(f"{name}.bias", (out_features,)) if has_bias else None
        return self.linear(self._matrix(f"{name}.weight", (out_features, in_features)), bias)

    def _matrix(self, name: str, shape: tuple[int, ...]) -> Tensor:
        return to_dtype(self._checkpoint.read(name, shape), self.arithmetic.weights)

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
