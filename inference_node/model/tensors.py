"""A model's tensors as its checkpoint has them, brought into the one shape and order that all layouts here are made from."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from inference_node.kernels.rotary import interleave_pairs
from inference_node.model.checkpoint import Checkpoint
from inference_node.model.errors import ModelInvalid
from inference_node.model.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class Matrix:
    """weight: [N, K] in its stored dtype; bias: [N] or None."""

    weight: Tensor
    bias: Tensor | None = None


@dataclass(frozen=True, slots=True)
class LayerTensors:
    """Norms are fp32 gains, whole (any offset added); those that the family lacks are None.

    qkv: queries, keys and values under one another, the rotary pairs of queries and keys side by side; gate_up: gates, then
    what they open.
    """

    attention_norm: Tensor
    qkv: Matrix
    q_norm: Tensor | None
    k_norm: Tensor | None
    output: Matrix
    attention_out_norm: Tensor | None
    mlp_norm: Tensor
    gate_up: Matrix
    down: Matrix
    mlp_out_norm: Tensor | None


class ModelTensors:
    """Reads by the family's names, one layer at a time. Every method raises ModelInvalid when a tensor is absent or misshapen."""

    def __init__(self, checkpoint: Checkpoint, spec: ModelSpec) -> None:
        self._checkpoint, self._spec, self._names = checkpoint, spec, spec.layout.names
        places = zip(self._names.prefixes, self._names.heads, strict=True)
        found = [place for place in places if f"{place[0]}{self._names.embedding}.weight" in checkpoint]
        if not found:
            wanted = " or ".join(f"{prefix}{self._names.embedding}.weight" for prefix in self._names.prefixes)
            raise ModelInvalid(f"the weights hold no tensor {wanted!r}; the folder does not fit its config.json")
        self._prefix, self._head = found[0]

    def embedding(self) -> Tensor:
        """[V, C]."""
        return self._read(
            f"{self._prefix}{self._names.embedding}.weight", (self._spec.vocab_size, self._spec.hidden_size)
        )

    def head(self) -> Tensor | None:
        """[V, C], or None when it is the embedding."""
        name = f"{self._head}.weight"
        if self._spec.tied_head or name not in self._checkpoint:
            return None
        return self._read(name, (self._spec.vocab_size, self._spec.hidden_size))

    def norm(self) -> Tensor:
        """[C] fp32, the last one."""
        return self._gain(self._prefix + self._names.norm, self._spec.hidden_size)

    def layer(self, index: int) -> LayerTensors:
        spec, names = self._spec, self._names
        at = self._prefix + names.layer.format(index)
        queries, keys = spec.num_heads * spec.head_dim, spec.num_key_heads * spec.head_dim
        qkv = self._stacked(at, names.qkv, (queries, keys, keys), spec.hidden_size, has_bias=spec.qkv_bias)
        gates = (spec.intermediate_size,) * 2
        return LayerTensors(
            attention_norm=self._gain(at + names.attention_norm, spec.hidden_size),
            qkv=Matrix(self._beside(qkv.weight), None if qkv.bias is None else self._beside(qkv.bias)),
            q_norm=self._head_norm(at + names.q_norm),
            k_norm=self._head_norm(at + names.k_norm),
            output=self._stacked(at, (names.output,), (spec.hidden_size,), queries, has_bias=spec.output_bias),
            attention_out_norm=self._out_norm(at, names.attention_out_norm),
            mlp_norm=self._gain(at + names.mlp_norm, spec.hidden_size),
            gate_up=self._stacked(at, names.gate_up, gates, spec.hidden_size, has_bias=spec.mlp_bias),
            down=self._stacked(at, (names.down,), (spec.hidden_size,), spec.intermediate_size, has_bias=spec.mlp_bias),
            mlp_out_norm=self._out_norm(at, names.mlp_out_norm),
        )

    def _stacked(self, at: str, names: Sequence[str], rows: Sequence[int], columns: int, *, has_bias: bool) -> Matrix:
        """One name holds all rows, or each its own."""
        counts = rows if len(names) == len(rows) else (sum(rows),)
        weights = [self._read(f"{at}{n}.weight", (count, columns)) for n, count in zip(names, counts, strict=True)]
        weight = weights[0] if len(weights) == 1 else torch.cat(weights)
        if not has_bias:
            return Matrix(weight)
        biases = [self._read(f"{at}{n}.bias", (count,)) for n, count in zip(names, counts, strict=True)]
        return Matrix(weight, biases[0] if len(biases) == 1 else torch.cat(biases))

    def _beside(self, qkv: Tensor) -> Tensor:
        """Rotary pairs of queries and keys side by side."""
        spec = self._spec
        if spec.layout.interleaved_rope:
            return qkv
        heads = spec.num_heads + spec.num_key_heads
        turning, values = qkv.split_with_sizes([heads * spec.head_dim, spec.num_key_heads * spec.head_dim])
        return torch.cat((interleave_pairs(turning, heads), values))

    def _head_norm(self, name: str) -> Tensor | None:
        if not self._spec.qk_norm:
            return None
        gain = self._gain(name, self._spec.head_dim)
        return gain if self._spec.layout.interleaved_rope else interleave_pairs(gain, 1)

    def _out_norm(self, at: str, name: str) -> Tensor | None:
        return self._gain(at + name, self._spec.hidden_size) if name else None

    def _gain(self, name: str, size: int) -> Tensor:
        return self._read(f"{name}.weight", (size,)).float() + self._spec.norm_offset

    def _read(self, name: str, shape: tuple[int, ...]) -> Tensor:
        return self._checkpoint.read(name, shape)
