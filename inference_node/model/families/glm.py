"""GLM-4-9B and its kin (`glm`), and the 0414 generation (`glm4`), which adds a norm after attention and after the MLP.

Half of each head's channels turn, as neighbours; gate and up are one matrix on disk. Source: transformers' GlmConfig and
Glm4Config with their modeling files.
"""

from inference_node.model.families.family import Family, Names

_DEFAULTS = {
    "num_key_value_heads": 2,
    "head_dim": 128,
    "rms_norm_eps": 1.5625e-7,
    "max_position_embeddings": 131_072,
    "attention_bias": True,
    "partial_rotary_factor": 0.5,
    "eos_token_id": [151_329, 151_336, 151_338],
}

GLM = Family(
    names=Names(gate_up=("mlp.gate_up_proj",)),
    defaults=_DEFAULTS,
    output_bias=False,
    interleaved_rope=True,
)

GLM4 = Family(
    names=Names(
        gate_up=("mlp.gate_up_proj",),
        attention_out_norm="post_self_attn_layernorm",
        mlp_out_norm="post_mlp_layernorm",
    ),
    defaults=_DEFAULTS,
    output_bias=False,
    interleaved_rope=True,
)
