"""What the forward must know of a model, read off its config.json: sizes, and which of the family's options it uses."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch

from inference_node.model import rope
from inference_node.model.errors import ModelInvalid, ModelNotFound, ModelUnsupported
from inference_node.model.families import FAMILIES
from inference_node.model.families.family import Family, WindowRule
from inference_node.model.kv_cache import SCALE_BYTES
from inference_node.model.rope import Rope


class Activation(StrEnum):
    """What the gate of the MLP goes through. gelu_tanh: Hendrycks & Gimpel, "Gaussian Error Linear Units" (2016), section 2."""

    SILU = "silu"
    GELU_TANH = "gelu_tanh"


_ACTIVATIONS = {"silu": Activation.SILU, "swish": Activation.SILU, "gelu_pytorch_tanh": Activation.GELU_TANH}


@dataclass(frozen=True, slots=True)
class Foreign:
    """That transformers' own module computes the model, and why; what its weights are named and shaped like is the module's."""

    reason: str
    num_weights: int


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A decoder of Llama's shape: RMSNorm, rotary attention with grouped heads, gated MLP; and where it differs from Llama.

    The options after `eos_token_ids` are at their neutral values unless a family or its config says otherwise. `windows` holds
    for each layer how many tokens back it sees, itself included, 0 for all; `local_rope` is for layers with a window. Of a model
    with `foreign`, the sizes of vocabulary, layers and heads and the windows count, the other options do not.
    """

    family: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_key_heads: int
    head_dim: int
    norm_eps: float
    tied_head: bool
    qkv_bias: bool
    output_bias: bool
    mlp_bias: bool
    qk_norm: bool
    max_positions: int
    rope: Rope
    eos_token_ids: frozenset[int]
    windows: tuple[int, ...] = ()
    local_rope: Rope | None = None
    activation: Activation = Activation.SILU
    sandwich_norms: bool = False
    norm_offset: float = 0.0
    embedding_scale: float = 1.0
    query_scale: float | None = None
    logit_softcap: float | None = None
    foreign: Foreign | None = None

    @classmethod
    def from_config(cls, config: Mapping[str, Any], generation: Mapping[str, Any] | None = None) -> "ModelSpec":
        """Raises ModelUnsupported for another kind of model, ModelInvalid for sizes that do not fit together."""
        name = str(config.get("model_type"))
        family = FAMILIES.get(name)
        if family is None:
            raise ModelUnsupported(
                f"models of type {name!r} have no forward of their own here; those that do: {', '.join(sorted(FAMILIES))}"
            )
        text = {**family.defaults, **(config.get(family.text_config, {}) if family.text_config else config)}
        _refuse_options({**config, **text})
        try:
            heads, layers, hidden = (
                int(text[key]) for key in ("num_attention_heads", "num_hidden_layers", "hidden_size")
            )
            max_positions = int(text.get("max_position_embeddings", 2048))
            whole, local = rope.read_ropes(text, allows_partial=family.interleaved_rope)
            softcap = text.get("final_logit_softcapping")
            query_scalar = text.get("query_pre_attn_scalar")
            spec = cls(
                family=name,
                vocab_size=int(text["vocab_size"]),
                hidden_size=hidden,
                intermediate_size=int(text["intermediate_size"]),
                num_layers=layers,
                num_heads=heads,
                num_key_heads=int(text.get("num_key_value_heads") or heads),
                head_dim=int(text.get("head_dim") or hidden // heads),
                norm_eps=float(text.get("rms_norm_eps", 1e-6)),
                tied_head=bool(text.get("tie_word_embeddings", False)),
                qkv_bias=_option(family.qkv_bias, text, "attention_bias"),
                output_bias=_option(family.output_bias, text, "attention_bias"),
                mlp_bias=_option(family.mlp_bias, text, "mlp_bias"),
                qk_norm=family.qk_norm,
                max_positions=max_positions,
                rope=whole,
                eos_token_ids=end_tokens(text, config, generation or {}),
                windows=_windows(text, family.windows, layers, max_positions),
                local_rope=local,
                activation=_activation(text),
                sandwich_norms=bool(family.names.attention_out_norm),
                norm_offset=family.norm_offset,
                embedding_scale=hidden**0.5 if family.scaled_embedding else 1.0,
                query_scale=None if query_scalar is None else float(query_scalar) ** -0.5,
                logit_softcap=None if softcap is None else float(softcap),
            )
        except KeyError as missing:
            raise ModelInvalid(f"config.json lacks {missing.args[0]!r}") from None
        except (TypeError, ValueError) as error:
            raise ModelInvalid(f"config.json holds a value of the wrong kind: {error}") from None
        spec._check()
        return spec

    def _check(self) -> None:
        sizes = (self.vocab_size, self.hidden_size, self.intermediate_size, self.num_layers, self.num_heads)
        if min(*sizes, self.num_key_heads, self.head_dim) < 1:
            raise ModelInvalid("config.json holds a size below 1")
        if self.num_heads % self.num_key_heads or self.head_dim % 2:
            raise ModelInvalid(
                f"config.json: {self.num_heads} query heads over {self.num_key_heads} key heads of {self.head_dim} "
                "channels do not fit together"
            )

    @property
    def layout(self) -> Family:
        """Where the tensors lie on disk, and in which form."""
        return FAMILIES[self.family]

    @property
    def attention_scale(self) -> float:
        """What products of queries and keys are multiplied with."""
        return self.head_dim**-0.5 if self.query_scale is None else self.query_scale

    def window(self, layer: int) -> int:
        """How many tokens back a layer sees, itself included; 0 for all."""
        return self.windows[layer] if self.windows else 0

    @property
    def qkv_features(self) -> int:
        return (self.num_heads + 2 * self.num_key_heads) * self.head_dim

    @property
    def num_weights(self) -> int:
        """Entries of all matrices, the embedding counted once when the head is tied."""
        if self.foreign is not None:
            return self.foreign.num_weights
        ends = self.vocab_size * self.hidden_size * (1 if self.tied_head else 2)
        return self.num_layers * sum(self.site_weights) + ends

    @property
    def site_weights(self) -> tuple[int, int, int, int]:
        """Entries of the matrix behind each pruning.Site of one layer, in its order."""
        attention = self.num_heads * self.head_dim
        return (
            self.hidden_size * self.qkv_features,
            attention * self.hidden_size,
            2 * self.hidden_size * self.intermediate_size,
            self.intermediate_size * self.hidden_size,
        )

    def kv_bytes_per_token(self, dtype: torch.dtype) -> int:
        """In eight bits with the scale that goes with each head's entries: two bytes on a CPU, four on a GPU."""
        scale = {torch.int8: SCALE_BYTES, torch.float8_e4m3fn: 4}.get(dtype, 0)
        return 2 * self.num_layers * self.num_key_heads * (self.head_dim * dtype.itemsize + scale)


def _option(given: bool | None, text: Mapping[str, Any], key: str) -> bool:
    return bool(text.get(key, False)) if given is None else given


def _activation(text: Mapping[str, Any]) -> Activation:
    key = "hidden_activation" if text.get("hidden_activation") else "hidden_act"
    written = text.get(key) or "silu"
    if written not in _ACTIVATIONS:
        raise ModelUnsupported(
            f"config.json: {key}={written!r} is not supported; this engine has {', '.join(sorted(_ACTIVATIONS))}"
        )
    return _ACTIVATIONS[written]


def _windows(text: Mapping[str, Any], rule: WindowRule, num_layers: int, max_positions: int) -> tuple[int, ...]:
    window = int(text.get("sliding_window") or 0)
    if rule is WindowRule.NONE or not 0 < window < max_positions:
        return ()
    if rule is WindowRule.UPPER and not text.get("use_sliding_window"):
        return ()
    types = text.get("layer_types")
    if types and len(types) != num_layers:
        raise ModelInvalid(f"config.json: layer_types names {len(types)} layers, num_hidden_layers is {num_layers}")
    if types and rule is not WindowRule.EVERY:
        slides = [kind == "sliding_attention" for kind in types]
    elif rule is WindowRule.UPPER:
        slides = [layer >= int(text["max_window_layers"]) for layer in range(num_layers)]
    elif rule is WindowRule.PATTERN:
        slides = [(layer + 1) % int(text["sliding_window_pattern"]) != 0 for layer in range(num_layers)]
    else:
        slides = [True] * num_layers
    return tuple(window if slide else 0 for slide in slides) if any(slides) else ()


def _refuse_options(config: Mapping[str, Any]) -> None:
    if config.get("quantization_config"):
        raise ModelUnsupported("the weights are already quantized; give the model in fp32, fp16 or bf16")
    for key in ("attn_logit_softcapping", "use_bidirectional_attention"):
        if config.get(key):
            raise ModelUnsupported(f"config.json: {key}={config[key]} is not supported")


def end_tokens(*sources: Mapping[str, Any]) -> frozenset[int]:
    """All tokens that any of the configs says a text ends with."""
    found: set[int] = set()
    for source in sources:
        value = source.get("eos_token_id")
        found.update([value] if isinstance(value, int) else value or [])
    return frozenset(found)


def read_configs(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """config.json and, where there is one, generation_config.json. Raises ModelNotFound, ModelInvalid."""
    if not folder.is_dir():
        raise ModelNotFound(f"{folder} is no folder; --model takes a folder in Hugging Face format")
    config = _read_json(folder / "config.json")
    if config is None:
        raise ModelNotFound(
            f"{folder} holds no config.json, so it is no model in Hugging Face format (config.json, tokenizer, *.safetensors)"
        )
    return config, _read_json(folder / "generation_config.json") or {}


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ModelInvalid(f"{path} is not readable JSON: {error}") from None
    if not isinstance(document, dict):
        raise ModelInvalid(f"{path} holds no JSON object")
    return document
