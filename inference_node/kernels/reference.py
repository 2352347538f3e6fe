"""Plain torch, the truth that the faster paths are tested against. M tokens of a step, H heads, D head dim."""

import torch
from torch import Tensor


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x: [M, C]. Statistics in fp32, result in x's dtype.

    Source: Zhang & Sennrich, "Root Mean Square Layer Normalization" (2019), eq. 4.
    """
    wide = x.float()
    scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return weight * (wide * scale).to(x.dtype)


def rotate_half(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding in Hugging Face's layout: channel i turns with i + D/2. x: [M, H, D]; cos, sin: [M, 1, D]."""
    half = x.shape[-1] // 2
    turned = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
    return x * cos + turned * sin


def causal_attention(q: Tensor, k: Tensor, v: Tensor, start: int, window: int = 0) -> Tensor:
    """One sequence. q: [T, Hq, D] at positions start .. start+T-1; k, v: [N, Hkv, D] from position 0.

    window: how many tokens back a token sees, itself included; 0 for all.

    Returns [T, Hq, D], fp32.
    """
    group = q.shape[1] // k.shape[1]
    keys = k.float().repeat_interleave(group, dim=1)
    values = v.float().repeat_interleave(group, dim=1)
    scores = torch.einsum("thd,nhd->htn", q.float(), keys) / q.shape[-1] ** 0.5
    keys, queries = torch.arange(k.shape[0])[None, :], torch.arange(start, start + q.shape[0])[:, None]
    visible = (keys <= queries) & (keys > queries - window if window else True)
    weights = scores.masked_fill(~visible, float("-inf")).softmax(-1)
    return torch.einsum("htn,nhd->thd", weights, values)
