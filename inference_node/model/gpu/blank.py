"""Weights of a model's shape that hold nothing: for what depends on shapes alone, such as compiling kernels."""

from dataclasses import replace

import torch

from inference_node.contract.settings import Precision
from inference_node.model.gpu.device import here
from inference_node.model.gpu.store import GpuLayer, GpuMatrix, GpuStore, arithmetic_of
from inference_node.model.spec import ModelSpec


def shortened(store: GpuStore, spec: ModelSpec) -> GpuStore:
    """The first layers, of each kind one at least: what differs between layers is their window."""
    needed = 1 + max((spec.windows.index(window) for window in set(spec.windows)), default=0)
    return replace(store, layers=store.layers[:needed])


def blank(store: GpuStore, spec: ModelSpec) -> GpuStore:
    """bf16 weights with as many layers as `store`, all zeros; what is no matrix is shared with it."""
    heads = spec.num_heads * spec.head_dim

    def zeros(inputs: int, outputs: int, like: GpuMatrix) -> GpuMatrix:
        return replace(like, weight=torch.zeros(inputs, outputs, device=here(), dtype=torch.bfloat16))

    def emptied(layer: GpuLayer) -> GpuLayer:
        return replace(
            layer,
            qkv=zeros(spec.hidden_size, spec.qkv_features, layer.qkv),
            output=zeros(heads, spec.hidden_size, layer.output),
            gate_up=zeros(spec.hidden_size, 2 * spec.intermediate_size, layer.gate_up),
            down=zeros(spec.intermediate_size, spec.hidden_size, layer.down),
        )

    return replace(
        store,
        precision=Precision.BF16,
        arithmetic=arithmetic_of(Precision.BF16),
        layers=tuple(emptied(layer) for layer in store.layers),
        # As it lies where it is the embedding too.
        head=replace(
            store.head, weight=torch.zeros(spec.vocab_size, spec.hidden_size, device=here(), dtype=torch.bfloat16).t()
        ),
    )
