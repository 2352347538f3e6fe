"""Llama and Mistral. Source: transformers' LlamaConfig and MistralConfig with their modeling files."""

from inference_node.model.families.family import Family, WindowRule

LLAMA = Family(mlp_bias=None)

MISTRAL = Family(
    defaults={"num_key_value_heads": 8, "max_position_embeddings": 131_072, "sliding_window": 4096},
    qkv_bias=False,
    output_bias=False,
    windows=WindowRule.EVERY,
)
