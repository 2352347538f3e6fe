"""What the forward must know of a model, read off its config.json: sizes, and which of the family's options it uses."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from inference_node.model.errors import ModelInvalid, ModelNotFound, ModelUnsupported


@dataclass(frozen=True, slots=True)
class Family:
    """Options that a family has by definition and does not always write into its config."""

    attention_bias: bool = False
    output_bias: bool = False
    qk_norm: bool = False


FAMILIES: dict[str, Family] = {
    "llama": Family(),
    "mistral": Family(),
    "qwen2": Family(attention_bias=True),
    "qwen3": Family(qk_norm=True),
}


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A decoder of Llama's shape: RMSNorm, rotary attention with grouped heads, gated MLP (SiLU)."""

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
    rope: Mapping[str, Any]
    eos_token_ids: frozenset[int]

    @classmethod
    def from_folder(cls, folder: Path) -> "ModelSpec":
        """Reads config.json. Raises ModelNotFound, ModelInvalid, ModelUnsupported."""
        if not folder.is_dir():
            raise ModelNotFound(f"{folder} is no folder; --model takes a folder in Hugging Face format")
        config = _read_json(folder / "config.json")
        if config is None:
            raise ModelNotFound(
                f"{folder} holds no config.json, so it is no model in Hugging Face format (config.json, tokenizer, *.safetensors)"
            )
        generation = _read_json(folder / "generation_config.json") or {}
        return cls.from_config(config, generation)

    @classmethod
    def from_config(cls, config: Mapping[str, Any], generation: Mapping[str, Any] | None = None) -> "ModelSpec":
        """Raises ModelUnsupported for another kind of model, ModelInvalid for sizes that do not fit together."""
        name = str(config.get("model_type"))
        family = FAMILIES.get(name)
        if family is None:
            raise ModelUnsupported(
                f"models of type {name!r} are not supported; this engine runs: {', '.join(sorted(FAMILIES))}"
            )
        _refuse_options(config, name)
        try:
            heads = int(config["num_attention_heads"])
            spec = cls(
                family=name,
                vocab_size=int(config["vocab_size"]),
                hidden_size=int(config["hidden_size"]),
                intermediate_size=int(config["intermediate_size"]),
                num_layers=int(config["num_hidden_layers"]),
                num_heads=heads,
                num_key_heads=int(config.get("num_key_value_heads") or heads),
                head_dim=int(config.get("head_dim") or int(config["hidden_size"]) // heads),
                norm_eps=float(config.get("rms_norm_eps", 1e-6)),
                tied_head=bool(config.get("tie_word_embeddings", False)),
                qkv_bias=bool(config.get("attention_bias", family.attention_bias)),
                output_bias=bool(config.get("attention_bias", family.output_bias)) and name != "qwen2",
                mlp_bias=bool(config.get("mlp_bias", False)),
                qk_norm=family.qk_norm,
                max_positions=int(config.get("max_position_embeddings", 2048)),
                rope=_rope(config),
                eos_token_ids=_eos(config, generation or {}),
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
    def qkv_features(self) -> int:
        return (self.num_heads + 2 * self.num_key_heads) * self.head_dim

    @property
    def num_weights(self) -> int:
        """Entries of all matrices, the embedding counted once when the head is tied."""
        attention = self.hidden_size * (self.qkv_features + self.num_heads * self.head_dim)
        mlp = 3 * self.hidden_size * self.intermediate_size
        ends = self.vocab_size * self.hidden_size * (1 if self.tied_head else 2)
        return self.num_layers * (attention + mlp) + ends

    def kv_bytes_per_token(self, dtype: torch.dtype) -> int:
        return 2 * self.num_layers * self.num_key_heads * self.head_dim * dtype.itemsize


def inverse_frequencies(spec: ModelSpec) -> Tensor:
    """Turning speed of each channel pair in radians per token, [D/2] fp32. Formulas as in transformers' modeling_rope_utils."""
    rope = spec.rope
    speeds = 1.0 / float(rope["rope_theta"]) ** (torch.arange(0, spec.head_dim, 2, dtype=torch.float32) / spec.head_dim)
    match rope["rope_type"]:
        case "default":
            return speeds
        case "linear":
            return speeds / float(rope["factor"])
        case "llama3":
            return _llama3(speeds, rope)
    raise AssertionError(rope["rope_type"])


def _llama3(speeds: Tensor, rope: Mapping[str, Any]) -> Tensor:
    factor, original = float(rope["factor"]), float(rope["original_max_position_embeddings"])
    low, high = float(rope["low_freq_factor"]), float(rope["high_freq_factor"])
    wavelength = 2 * math.pi / speeds
    smooth = (original / wavelength - low) / (high - low)
    blended = (1 - smooth) * speeds / factor + smooth * speeds
    slow = torch.where(wavelength > original / low, speeds / factor, blended)
    return torch.where(wavelength < original / high, speeds, slow)


def _rope(config: Mapping[str, Any]) -> dict[str, Any]:
    # transformers 5 writes rope_parameters; older configs have rope_theta and rope_scaling.
    found = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    found.setdefault("rope_theta", config.get("rope_theta", 10_000.0))
    found["rope_type"] = found.get("rope_type", found.get("type", "default"))
    if found["rope_type"] not in ("default", "linear", "llama3"):
        raise ModelUnsupported(
            f"rope scaling {found['rope_type']!r} is not supported; this engine has default, linear and llama3"
        )
    if found.get("partial_rotary_factor", config.get("partial_rotary_factor", 1.0)) not in (None, 1.0):
        raise ModelUnsupported("partial rotary embeddings are not supported")
    return found


def _refuse_options(config: Mapping[str, Any], name: str) -> None:
    activation = config.get("hidden_act", "silu")
    if activation not in ("silu", "swish"):
        raise ModelUnsupported(f"the activation {activation!r} is not supported; this engine has silu")
    if config.get("quantization_config"):
        raise ModelUnsupported("the weights are already quantized; give the model in fp32, fp16 or bf16")
    window = config.get("sliding_window") if config.get("use_sliding_window", name == "mistral") else None
    if window:
        raise ModelUnsupported(f"sliding-window attention (sliding_window={window}) is not supported")


def _eos(config: Mapping[str, Any], generation: Mapping[str, Any]) -> frozenset[int]:
    found: set[int] = set()
    for source in (config, generation):
        value = source.get("eos_token_id")
        found.update([value] if isinstance(value, int) else value or [])
    return frozenset(found)


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
