"""Models for tests: tiny random ones of every supported shape, and the real demo model, converted once and kept."""

import json
import os
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor

from inference_node.demo_model import ensure_demo_model

EOS = 256
VOCABULARY = 272  # 256 bytes, the end token, and some that stand for nothing

_SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "bos_token_id": EOS,
    "eos_token_id": EOS,
    "pad_token_id": EOS,
    "tie_word_embeddings": False,
}
# Sizes that the native kernels take; those that fit no panel show what stands at their ends.
_NATIVE: dict[str, Any] = {"hidden_size": 160, "intermediate_size": 200, "head_dim": 64}
_LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
_YARN_ROPE = {
    "rope_type": "yarn",
    "rope_theta": 10_000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 64,
}
# Three layers with a window of 40 tokens, with a rope of their own, to one without.
_GEMMA3: dict[str, Any] = {
    "num_hidden_layers": 4,
    "tie_word_embeddings": True,
    "sliding_window": 40,
    "sliding_window_pattern": 4,
    "query_pre_attn_scalar": 24,
    "rope_parameters": {
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1_000_000.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
    },
}
_VISION: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
# One shape per option of the spec: grouped, single and equal heads, tied head, biases, rope scaling, norms per head, windows,
# and what only GLM and Gemma 3 have.
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama-gqa": ("llama", {}),
    "llama-mha-tied": ("llama", {"num_key_value_heads": 4, "tie_word_embeddings": True}),
    "llama-mqa": ("llama", {"num_key_value_heads": 1}),
    "llama-biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama-rope-linear": ("llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 2.0}}),
    "llama-rope-llama3": ("llama", {"rope_parameters": _LLAMA3_ROPE}),
    "llama-rope-yarn": ("llama", {"rope_parameters": _YARN_ROPE}),
    "llama-native": ("llama", _NATIVE),
    "llama-native-tied-deep": ("llama", _NATIVE | {"tie_word_embeddings": True, "intermediate_size": 640}),
    "llama-native-biases": ("llama", _NATIVE | {"attention_bias": True, "mlp_bias": True, "head_dim": 128}),
    "llama-native-yarn": ("llama", _NATIVE | {"rope_parameters": _YARN_ROPE}),
    "qwen3-native": ("qwen3", _NATIVE),
    "mistral-native-window": ("mistral", _NATIVE | {"sliding_window": 50}),
    "glm-native": ("glm", _NATIVE),
    "glm4-native": ("glm4", _NATIVE),
    "gemma3-native": ("gemma3_text", _GEMMA3 | _NATIVE),
    "gemma3-native-softcap": ("gemma3_text", _GEMMA3 | _NATIVE | {"final_logit_softcapping": 3.0, "head_dim": 128}),
    "mistral": ("mistral", {"sliding_window": None}),
    "mistral-window": ("mistral", {"sliding_window": 50}),
    "qwen2": ("qwen2", {}),
    "qwen2-upper-windows": ("qwen2", {"use_sliding_window": True, "sliding_window": 33, "max_window_layers": 1}),
    "qwen3": ("qwen3", {}),
    "glm": ("glm", {}),
    "glm-no-biases": ("glm", {"attention_bias": False, "tie_word_embeddings": True}),
    "glm4": ("glm4", {}),
    "gemma3-text": ("gemma3_text", _GEMMA3),
    "gemma3-text-softcap": ("gemma3_text", _GEMMA3 | {"final_logit_softcapping": 3.0}),
    "gemma3": ("gemma3", {"text_config": _SMALL | _GEMMA3, "vision_config": _VISION, "mm_tokens_per_image": 4}),
}

# Families that the own forward does not know: parallel residuals, other norms, biases and multipliers, partial rotary embeddings,
# learned positions with transposed products, experts, and a window in three of four layers.
FOREIGN_SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt_neox": ("gpt_neox", {}),
    "gpt2": ("gpt2", {"n_inner": 96}),
    "phi": ("phi", {}),
    "granite": ("granite", {"logits_scaling": 2.0, "attention_multiplier": 0.2, "residual_multiplier": 0.5}),
    "olmo2": ("olmo2", {}),
    "olmo3": ("olmo3", {"num_hidden_layers": 4, "sliding_window": 40}),
    "stablelm": ("stablelm", {}),
    "cohere": ("cohere", {"logit_scale": 0.5}),
    "mixtral": ("mixtral", {"num_local_experts": 4}),
    # Llama itself, with options that the own forward refuses.
    "llama-gelu": ("llama", {"hidden_act": "gelu"}),
}
# And what cannot run over paged keys and values at all, with the reason.
REFUSED_SHAPES: dict[str, tuple[str, dict[str, Any], str]] = {
    "gemma2": ("gemma2", {"tie_word_embeddings": True}, "caps the scores"),
    "gpt_oss": ("gpt_oss", {"num_local_experts": 4}, "attention sinks"),
    "falcon_h1": (
        "falcon_h1",
        {"mamba_d_ssm": 64, "mamba_n_heads": 4, "mamba_d_head": 16},
        "computes by itself|do not run",
    ),
    "llama-rope-dynamic": (
        "llama",
        {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 2.0}},
        "turns by the longest sequence",
    ),
    "bloom": ("bloom", {"n_layer": 2, "n_head": 4}, "0 of its 2 layers attend"),
}


def save_tiny_model(
    folder: Path, shape: str = "llama-gqa", *, dtype: torch.dtype = torch.float32, seed: int = 0
) -> Path:
    """Writes a random model with a byte tokenizer into `folder` and returns it."""
    from transformers import AutoConfig, AutoModelForCausalLM

    family, options = (SHAPES | FOREIGN_SHAPES | {name: given[:2] for name, given in REFUSED_SHAPES.items()})[shape]
    config = AutoConfig.for_model(family, **(options if "text_config" in options else _SMALL | options))
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # transformers starts biases at 0 and norms at 1, where a mix-up would not show.
            if name.endswith("bias") or "norm" in name:
                parameter.add_(0.2 * torch.randn_like(parameter))
            elif parameter.dim() == 2:
                parameter.copy_(0.15 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    _save_byte_tokenizer(folder)
    return folder


def _save_byte_tokenizer(folder: Path) -> None:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={symbol: i for i, symbol in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<end>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "eos_token": "<end>",
                "pad_token": "<end>",
                "chat_template": "{% for m in messages %}{{ m['content'] }}{% endfor %}",
            }
        )
    )


def byte_tokenizer(folder: Path) -> Any:
    """The tiny models' tokenizer, without a model; its files are written into `folder`."""
    from transformers import AutoTokenizer

    _save_byte_tokenizer(folder)
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def demo_model() -> Path:
    """The real demo model's folder; converted on first use (some seconds), then kept for all test runs."""
    cache = os.environ.get("TRIMTAB_TEST_CACHE") or str(Path.home() / ".cache" / "trimtab")
    return ensure_demo_model(Path(cache))


def oracle_logits(folder: Path, tokens: list[int], dtype: torch.dtype) -> Tensor:
    """What transformers' own model computes: [T, V] fp32."""
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager")
    with torch.no_grad():
        logits: Tensor = model(torch.tensor([tokens])).logits[0].float()
    return logits
