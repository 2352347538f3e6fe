"""Random weights of Llama 3 8B's shape: speed does not depend on what a model was trained to say.

Shape: meta-llama/Meta-Llama-3-8B's config.json (2024).
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from inference_node.contract.settings import Precision
from inference_node.model.gpu.store import GpuLayer, GpuMatrix, GpuStore, arithmetic_of, turning_tables
from inference_node.model.spec import ModelSpec

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 128_256,
    "hidden_size": 4096,
    "intermediate_size": 14_336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500_000.0,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": False,
}
# As transformers initialises: initializer_range of LlamaConfig.
_DEVIATION = 0.02


def llama3_8b(layers: int | None = None) -> ModelSpec:
    spec = ModelSpec.from_config(CONFIG)
    return spec if layers is None else replace(spec, num_layers=layers)


def random_store(spec: ModelSpec, seed: int = 0) -> GpuStore:
    """bf16 weights, drawn on the device."""
    draw = torch.Generator(device="cuda").manual_seed(seed)

    def matrix(inputs: int, outputs: int) -> Tensor:
        weight = torch.empty(inputs, outputs, device="cuda", dtype=torch.bfloat16)
        return weight.normal_(std=_DEVIATION, generator=draw)

    def gain() -> Tensor:
        return torch.ones(spec.hidden_size, device="cuda")

    hidden, middle = spec.hidden_size, spec.intermediate_size
    layers = tuple(
        GpuLayer(
            attention_norm=gain(),
            qkv=GpuMatrix(matrix(hidden, spec.qkv_features)),
            q_norm=None,
            k_norm=None,
            output=GpuMatrix(matrix(spec.num_heads * spec.head_dim, hidden)),
            attention_out_norm=None,
            mlp_norm=gain(),
            gate_up=GpuMatrix(matrix(hidden, 2 * middle)),
            down=GpuMatrix(matrix(middle, hidden)),
            mlp_out_norm=None,
        )
        for _ in range(spec.num_layers)
    )
    turns, local = turning_tables(spec)
    return GpuStore(
        precision=Precision.BF16,
        arithmetic=arithmetic_of(Precision.BF16),
        embedding=matrix(spec.vocab_size, hidden),
        layers=layers,
        norm=gain(),
        head=GpuMatrix(matrix(spec.vocab_size, hidden).t()),
        turns=turns,
        local_turns=local,
    )
