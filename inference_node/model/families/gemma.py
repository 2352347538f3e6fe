"""Gemma 3: the text model alone (`gemma3_text`), and the text part of the one that sees pictures (`gemma3`).

Norms before and after attention and MLP, gains stored less 1; five layers with a sliding window and a rope of their own to one
that sees everything; the head is the embedding. Source: Gemma Team, "Gemma 3 Technical Report" (2025), section 2, and
transformers' Gemma3TextConfig with its modeling file.
"""

from dataclasses import replace

from inference_node.model.families.family import Family, Names, WindowRule

GEMMA3_TEXT = Family(
    names=Names(
        attention_out_norm="post_attention_layernorm",
        mlp_norm="pre_feedforward_layernorm",
        mlp_out_norm="post_feedforward_layernorm",
    ),
    # Hub configs of the larger models leave most of these out.
    defaults={
        "vocab_size": 262_208,
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": 131_072,
        "tie_word_embeddings": True,
        "query_pre_attn_scalar": 256,
        "sliding_window": 4096,
        "sliding_window_pattern": 6,
        "rope_theta": 1_000_000.0,
        "rope_local_base_freq": 10_000.0,
        "eos_token_id": 1,
    },
    qk_norm=True,
    norm_offset=1.0,
    scaled_embedding=True,
    windows=WindowRule.PATTERN,
)

GEMMA3 = replace(
    GEMMA3_TEXT,
    # As the Hub has it and transformers saves it, and as transformers 5 names its modules.
    names=replace(
        GEMMA3_TEXT.names,
        prefixes=("language_model.model.", "model.language_model."),
        heads=("language_model.lm_head", "lm_head"),
    ),
    text_config="text_config",
)
