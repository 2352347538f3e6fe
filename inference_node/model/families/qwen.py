"""Qwen 2, 2.5 and 3, dense. Source: transformers' Qwen2Config and Qwen3Config with their modeling files."""

from inference_node.model.families.family import Family, WindowRule

_WINDOWS = {"use_sliding_window": False, "sliding_window": 4096, "max_window_layers": 28}

QWEN2 = Family(
    defaults={"max_position_embeddings": 32_768, **_WINDOWS},
    qkv_bias=True,
    output_bias=False,
    windows=WindowRule.UPPER,
)

QWEN3 = Family(
    defaults={"head_dim": 128, "max_position_embeddings": 32_768, **_WINDOWS},
    qk_norm=True,
    windows=WindowRule.UPPER,
)
