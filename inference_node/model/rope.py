"""Rotary position embedding: which scaling a config asks for, and how fast each channel pair turns under it."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from inference_node.model.errors import ModelInvalid, ModelUnsupported

# What each scaling cannot do without.
_NEEDS: dict[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    "yarn": ("factor", "original_max_position_embeddings"),
}

Rope = Mapping[str, Any]


def read_ropes(config: Mapping[str, Any], *, allows_partial: bool) -> tuple[Rope, Rope | None]:
    """The rope of layers that see everything, and of those with a sliding window where it is another.

    Raises ModelUnsupported or ModelInvalid, naming the field.
    """
    # transformers 5 writes rope_parameters, nested when layers differ; older configs have rope_theta and rope_scaling.
    written = config.get("rope_parameters") or {}
    if "full_attention" in written or "sliding_attention" in written:
        full, sliding = written.get("full_attention") or {}, written.get("sliding_attention") or {}
    else:
        full, sliding = written or config.get("rope_scaling") or {}, {}
    whole = _read(config, full, config.get("rope_theta"), allows_partial=allows_partial)
    if not sliding and "rope_local_base_freq" not in config:
        return whole, None
    return whole, _read(config, sliding, config.get("rope_local_base_freq"), allows_partial=allows_partial)


def speeds(rope: Rope, head_dim: int) -> Tensor:
    """Turning speed of each channel pair in radians per token, [D/2] fp32; 0 for channels that do not turn.

    Formulas as in transformers' modeling_rope_utils.
    """
    turning = int(head_dim * float(rope.get("partial_rotary_factor", 1.0)))
    plain = 1.0 / float(rope["rope_theta"]) ** (torch.arange(0, turning, 2, dtype=torch.float32) / turning)
    match rope["rope_type"]:
        case "linear":
            scaled = plain / float(rope["factor"])
        case "llama3":
            scaled = _llama3(plain, rope)
        case "yarn":
            scaled = _yarn(plain, rope, turning)
        case _:
            scaled = plain
    return torch.cat((scaled, torch.zeros((head_dim - turning) // 2)))


def gain(rope: Rope) -> float:
    """What turned queries and keys are multiplied with, each."""
    if rope["rope_type"] != "yarn":
        return 1.0
    if (given := rope.get("attention_factor")) is not None:
        return float(given)
    factor = float(rope["factor"])
    mscale, mscale_all = rope.get("mscale"), rope.get("mscale_all_dim")
    if mscale and mscale_all:
        return _yarn_gain(factor, float(mscale)) / _yarn_gain(factor, float(mscale_all))
    return _yarn_gain(factor, 1.0)


def _read(config: Mapping[str, Any], written: Rope, theta: Any, *, allows_partial: bool) -> Rope:
    found = dict(written)
    if found.get("rope_theta") is None:
        found["rope_theta"] = 10_000.0 if theta is None else theta
    found["rope_type"] = kind = found.pop("type", None) or found.get("rope_type", "default")
    if kind not in _NEEDS:
        raise ModelUnsupported(
            f"config.json: rope_type {kind!r} is not supported; this engine has {', '.join(sorted(_NEEDS))}"
        )
    if kind in ("llama3", "yarn"):
        found.setdefault("original_max_position_embeddings", config.get("max_position_embeddings", 2048))
    for name in _NEEDS[kind]:
        if found.get(name) is None:
            raise ModelInvalid(f"config.json: rope scaling {kind!r} lacks {name!r}")
    partial = found.pop("partial_rotary_factor", None) or config.get("partial_rotary_factor") or 1.0
    if partial != 1.0:
        if not allows_partial:
            raise ModelUnsupported(
                f"config.json: partial_rotary_factor={partial} is not supported for this family; its heads turn whole"
            )
        found["partial_rotary_factor"] = float(partial)
    return found


def _llama3(plain: Tensor, rope: Rope) -> Tensor:
    factor, original = float(rope["factor"]), float(rope["original_max_position_embeddings"])
    low, high = float(rope["low_freq_factor"]), float(rope["high_freq_factor"])
    wavelength = 2 * math.pi / plain
    smooth = (original / wavelength - low) / (high - low)
    blended = (1 - smooth) * plain / factor + smooth * plain
    slow = torch.where(wavelength > original / low, plain / factor, blended)
    return torch.where(wavelength < original / high, plain, slow)


def _yarn(plain: Tensor, rope: Rope, turning: int) -> Tensor:
    """Source: Peng et al., "YaRN: Efficient Context Window Extension of Large Language Models" (2023), section 3.2."""
    theta, original = float(rope["rope_theta"]), float(rope["original_max_position_embeddings"])

    def pair_of(turns: float) -> float:
        """The channel pair, as a real number, that turns so often within the original context."""
        return turning * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(theta))

    first, last = pair_of(float(rope.get("beta_fast") or 32)), pair_of(float(rope.get("beta_slow") or 1))
    if rope.get("truncate", True):
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, turning - 1)
    width = (last - first) or 0.001
    stretched = ((torch.arange(turning // 2, dtype=torch.float32) - first) / width).clamp(0, 1)
    return plain / float(rope["factor"]) * stretched + plain * (1 - stretched)


def _yarn_gain(factor: float, mscale: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0
