"""Reads a ModelSpec off transformers' own module: built on the meta device, without weights, and run once over three tokens."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from inference_node.model.errors import ModelUnsupported
from inference_node.model.foreign.attention import NAME, Call, Recorder, taken_by
from inference_node.model.spec import Foreign, ModelSpec, end_tokens

_TOKENS = 3
_BY_LENGTH = {"dynamic", "longrope"}


def describe(folder: Path, config: Mapping[str, Any], generation: Mapping[str, Any], reason: str) -> ModelSpec:
    """`reason`: why the own forward cannot run it. Raises ModelUnsupported, naming that and why the module cannot either."""
    if config.get("quantization_config"):
        raise ModelUnsupported(reason)
    try:
        whole = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        text = whole.get_text_config()
        if by_length := _rope_types(text) & _BY_LENGTH:
            raise _unsupported(
                reason,
                f"its rope ({by_length.pop()}) turns by the longest sequence of a step, here those of many requests",
            )
        model, logits, calls = _run(whole)
    except ModelUnsupported:
        raise
    # transformers, and what a family's own code does with a config, raise anything.
    except Exception as error:  # noqa: BLE001
        raise _unsupported(reason, _first_line(error)) from None
    layers = int(text.num_hidden_layers)
    if len(calls) != layers:
        raise _unsupported(reason, f"{len(calls)} of its {layers} layers attend; what the others keep is not paged")
    if strange := next((call.strange for call in calls if call.strange), ""):
        raise _unsupported(reason, strange)
    first = calls[0]
    if len({(call.num_heads, call.num_key_heads, call.head_dim) for call in calls}) > 1:
        raise _unsupported(reason, "its layers differ in heads")
    embedding = model.get_input_embeddings().weight
    max_positions = int(getattr(text, "max_position_embeddings", None) or 2048)
    windows = tuple(call.window if call.window < max_positions else 0 for call in calls)
    return ModelSpec(
        family=str(config.get("model_type")),
        vocab_size=int(logits.shape[-1]),
        hidden_size=int(embedding.shape[1]),
        intermediate_size=0,
        num_layers=layers,
        num_heads=first.num_heads,
        num_key_heads=first.num_key_heads,
        head_dim=first.head_dim,
        norm_eps=0.0,
        tied_head=bool(getattr(text, "tie_word_embeddings", False)),
        qkv_bias=False,
        output_bias=False,
        mlp_bias=False,
        qk_norm=False,
        max_positions=max_positions,
        rope={},
        eos_token_ids=end_tokens(text.to_dict(), config, generation),
        windows=windows if any(windows) else (),
        foreign=Foreign(reason, sum(parameter.numel() for parameter in model.parameters())),
    )


def _run(config: Any) -> tuple[Any, torch.Tensor, list[Call]]:
    # Some families look for padding among the tokens, and there is nothing to find on the meta device.
    config.pad_token_id = config.get_text_config().pad_token_id = None
    with torch.device("meta"):
        # bf16, since some families have products for nothing else.
        model = AutoModelForCausalLM.from_config(
            config, attn_implementation=NAME, dtype=torch.bfloat16, trust_remote_code=False
        )
    model.eval()
    recorder = Recorder()
    tokens = torch.zeros(1, _TOKENS, dtype=torch.int64, device="meta")
    positions = torch.arange(_TOKENS, device="meta")[None]
    with torch.inference_mode(), taken_by(recorder):
        logits = model(input_ids=tokens, position_ids=positions, use_cache=False).logits
    return model, logits, recorder.calls


def _rope_types(text: Any) -> set[str]:
    written = getattr(text, "rope_parameters", None) or {}
    return {
        str(part["rope_type"])
        for part in (written, *written.values())
        if isinstance(part, dict) and "rope_type" in part
    }


def _unsupported(reason: str, why: str) -> ModelUnsupported:
    return ModelUnsupported(f"{reason}; transformers' own module cannot take its place: {why}")


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0] if text else 'no message'}"
