"""What tells one family of decoders from another, as data: where its tensors lie, and which options it has by definition."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class WindowRule(StrEnum):
    """Which layers look back `sliding_window` tokens only, where config.json gives no layer_types."""

    NONE = "none"
    EVERY = "every"
    # From layer max_window_layers on, if use_sliding_window is set.
    UPPER = "upper"
    # All but each sliding_window_pattern-th.
    PATTERN = "pattern"


@dataclass(frozen=True, slots=True)
class Names:
    """Where tensors lie in the checkpoint; '.weight' and '.bias' are left out.

    Several names for one matrix mean that its rows lie apart and are joined in that order; an empty name, that the family has
    no such tensor. `prefixes` are tried in order, each with the head at the same place of `heads`.
    """

    prefixes: tuple[str, ...] = ("model.",)
    heads: tuple[str, ...] = ("lm_head",)
    embedding: str = "embed_tokens"
    norm: str = "norm"
    layer: str = "layers.{}."
    qkv: tuple[str, ...] = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
    q_norm: str = "self_attn.q_norm"
    k_norm: str = "self_attn.k_norm"
    output: str = "self_attn.o_proj"
    gate_up: tuple[str, ...] = ("mlp.gate_proj", "mlp.up_proj")
    down: str = "mlp.down_proj"
    attention_norm: str = "input_layernorm"
    attention_out_norm: str = ""
    mlp_norm: str = "post_attention_layernorm"
    mlp_out_norm: str = ""


@dataclass(frozen=True, slots=True)
class Family:
    """Options of a family. What its config.json may turn is read there; the rest stands here.

    defaults: what transformers' config class fills in where config.json is silent and Llama's own default would be wrong.
    qkv_bias, output_bias, mlp_bias: None where config.json's attention_bias or mlp_bias decides.
    norm_offset: added to the gains of all norms, for families that store them less 1.
    interleaved_rope: rotary pairs lie side by side on disk, and partial_rotary_factor may be below 1.
    scaled_embedding: token embeddings are multiplied by the root of the hidden size.
    text_config: the key of config.json under which the text model's options lie, for models that can do more than text.
    """

    names: Names = field(default_factory=Names)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    qkv_bias: bool | None = None
    output_bias: bool | None = None
    mlp_bias: bool | None = False
    qk_norm: bool = False
    norm_offset: float = 0.0
    interleaved_rope: bool = False
    scaled_embedding: bool = False
    windows: WindowRule = WindowRule.NONE
    text_config: str = ""
