"""The kernels of this folder in plain torch, on any device: what they must equal, within the tolerance of their dtype."""

import torch
from torch import Tensor
from torch.nn import functional

from inference_node.kernels.gpu.planes import GROUP


def prune(x: Tensor, tau: Tensor) -> Tensor:
    return torch.where(x.float().abs() > tau, x, torch.zeros((), dtype=x.dtype))


def norm(x: Tensor, gain: Tensor, eps: float) -> Tensor:
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps) * gain).bfloat16()


def add_norm(
    residual: Tensor,
    delta: Tensor | None,
    gain: Tensor,
    eps: float,
    tau: Tensor,
    *,
    delta_scales: tuple[Tensor, Tensor] | None = None,
    delta_bias: Tensor | None = None,
    delta_gain: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Returns (residual afterwards, rows)."""
    if delta is not None:
        wide = delta.float()
        if delta_scales is not None:
            wide = wide * delta_scales[0][:, None] * delta_scales[1]
        if delta_bias is not None:
            wide = wide + delta_bias
        if delta_gain is not None:
            wide = norm(wide.bfloat16(), delta_gain, eps).float()
        residual = (residual.float() + wide.bfloat16().float()).bfloat16()
    return residual, prune(norm(residual, gain, eps), tau)


def quantize_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    scale = x.float().abs().amax(-1).clamp_min(1e-12) / 448.0
    return (x.float() / scale[:, None]).to(torch.float8_e4m3fn), scale


def gated(
    gate_up: Tensor,
    tau: Tensor,
    *,
    gelu: bool,
    scales: tuple[Tensor, Tensor] | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    wide = gate_up.float()
    if scales is not None:
        wide = wide * scales[0][:, None] * scales[1]
    if bias is not None:
        wide = wide + bias
    gate, up = wide.chunk(2, dim=-1)
    opened = functional.gelu(gate, approximate="tanh") if gelu else functional.silu(gate)
    return prune((opened.bfloat16().float() * up).bfloat16(), tau)


def turned(
    qkv: Tensor,
    turns: Tensor,
    positions: Tensor,
    heads: int,
    key_heads: int,
    *,
    eps: float,
    scales: tuple[Tensor, Tensor] | None = None,
    bias: Tensor | None = None,
    head_gains: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries (not scaled) [M, H, D], keys and values [M, G, D], fp32, before they are rounded into their pages."""
    wide = qkv.float()
    if scales is not None:
        wide = wide * scales[0][:, None] * scales[1]
    if bias is not None:
        wide = wide + bias
    split = wide.bfloat16().view(qkv.shape[0], heads + 2 * key_heads, -1)
    q, k, v = split.split([heads, key_heads, key_heads], dim=1)
    if head_gains is not None:
        q, k = norm(q, head_gains[0], eps), norm(k, head_gains[1], eps)
    cos, sin = turns[positions.long()].unbind(1)
    return _turn(q.float(), cos, sin), _turn(k.float(), cos, sin), v.float()


def _turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    even, odd = x[..., 0::2], x[..., 1::2]
    cos, sin = cos[:, None], sin[:, None]
    return torch.stack((even * cos - odd * sin, odd * cos + even * sin), dim=-1).flatten(-2)


def keys_values(pages: Tensor, page_scales: Tensor | None, table: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The first `count` keys and values of one run: [count, G, D] fp32 each."""
    blocks = pages[table.long()].float()
    if page_scales is not None:
        blocks = blocks * page_scales[table.long()].unsqueeze(-1)
    both = blocks.permute(1, 0, 3, 2, 4).flatten(1, 2)[:, :count]
    return both[0], both[1]


def attention(q: Tensor, keys: Tensor, values: Tensor, start: int, window: int = 0) -> Tensor:
    """One run. q: [T, H, D] at positions start .. start + T - 1, scaled; returns [T, H D] fp32."""
    group = q.shape[1] // keys.shape[1]
    keys, values = keys.repeat_interleave(group, dim=1), values.repeat_interleave(group, dim=1)
    scores = torch.einsum("thd,nhd->htn", q.float(), keys)
    at = torch.arange(keys.shape[0], device=q.device)
    mine = torch.arange(start, start + q.shape[0], device=q.device)[:, None]
    visible = at <= mine
    if window:
        visible = visible & (at > mine - window)
    weights = scores.masked_fill(~visible, float("-inf")).softmax(-1)
    return torch.einsum("htn,nhd->thd", weights, values).flatten(1)


def in_bytes(x: Tensor) -> Tensor:
    """x: [M, K]. What is left of it, fp32, when each 64 neighbours are whole numbers from -127 to 127 times a scale."""
    rows, inputs = x.shape
    groups = functional.pad(x.float(), (0, -inputs % GROUP)).view(rows, -1, GROUP)
    scale = groups.abs().amax(-1, keepdim=True).clamp_min(1e-30) / 127.0
    return ((groups / scale + 0.5).floor() * scale).flatten(1)[:, :inputs]
