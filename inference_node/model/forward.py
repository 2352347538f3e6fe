"""One forward pass over the tokens of a step, prompts and single tokens alike.

Letters: M rows of the step (padded), R rows that need logits, C hidden size, H heads, D head dim, V vocabulary.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from inference_node.kernels.attention import AttentionGroup, Run, attend, plan_groups
from inference_node.kernels.rms_norm import rms_norm
from inference_node.kernels.rotary import RotaryTable, rotate_pairs
from inference_node.kernels.rows import RowPlan
from inference_node.model.kv_cache import KvCache
from inference_node.model.rope import Rope, gain, speeds
from inference_node.model.spec import Activation, ModelSpec
from inference_node.model.weights import HEAD_ROWS, LayerWeights, WeightStore
from inference_node.pruning.thresholds import Site

# The widest step between neighbours in bf16, relative to their size: its significand has 8 bits.
_BF16_STEP = 2.0**-7


class ActivationHook(Protocol):
    """Sees, and may change, what goes into each matrix: see pruning.prune."""

    def begin(self, rows: int) -> None: ...

    def __call__(self, layer: int, site: Site, x: Tensor) -> Tensor: ...


class Padded(Protocol):
    """Weights that say to how many rows a step is padded for them."""

    @property
    def rows(self) -> RowPlan: ...


@dataclass(frozen=True, slots=True)
class StepInputs:
    """tokens, positions, slots: [M] int64; sampled: [R] int64, rows whose logits are wanted; `real` rows are no padding.

    groups: for each window that the model's layers have (0: none), how its tokens attend.
    """

    tokens: Tensor
    positions: Tensor
    slots: Tensor
    groups: Mapping[int, tuple[AttentionGroup, ...]]
    sampled: Tensor
    real: int

    def sampling_all(self) -> "StepInputs":
        """The same step, with logits for every real row."""
        return replace(self, sampled=torch.arange(self.real))


@dataclass(frozen=True, slots=True)
class TokenRun:
    """Consecutive tokens of one sequence to compute; block_table covers them and all before."""

    tokens: Sequence[int]
    start: int
    block_table: Sequence[int]
    samples: bool


def plan_step(runs: Sequence[TokenRun], store: Padded, kv: KvCache, spec: ModelSpec) -> StepInputs:
    """Lays the runs out as rows, pads them to a size that every product has, and groups them for attention."""
    tokens: list[int] = []
    positions: list[int] = []
    slots: list[int] = []
    sampled: list[int] = []
    attention: list[Run] = []
    size = kv.block_size
    for run in runs:
        attention.append(Run(len(tokens), run.start, len(run.tokens), run.block_table))
        tokens += run.tokens
        span = range(run.start, run.start + len(run.tokens))
        positions += span
        slots += [run.block_table[position // size] * size + position % size for position in span]
        if run.samples:
            sampled.append(len(tokens) - 1)
    real = len(tokens)
    padding = store.rows.pad(real) - real
    fold = spec.num_heads // spec.num_key_heads
    groups = {
        window: plan_groups(attention, dtype=kv.dtype, block_size=size, heads_per_key=fold, window=window)
        for window in set(spec.windows) or {0}
    }
    return StepInputs(
        tokens=torch.tensor(tokens + [0] * padding),
        positions=torch.tensor(positions + [0] * padding),
        slots=torch.tensor(slots + [kv.scratch_slot] * padding),
        groups=groups,
        sampled=torch.tensor(sampled, dtype=torch.int64),
        real=real,
    )


class Forward:
    """The forward of one model. Holds no weights: each call names the store to run with."""

    def __init__(self, spec: ModelSpec, max_positions: int) -> None:
        self._spec = spec
        whole = _rotary_table(spec, spec.rope, max_positions)
        # By whether the layer has a window; most families turn alike in both.
        self._rotary = {False: whole}
        if any(spec.windows):
            local = spec.local_rope
            self._rotary[True] = whole if local is None else _rotary_table(spec, local, max_positions)

    @torch.inference_mode()
    def __call__(
        self, inputs: StepInputs, store: WeightStore, kv: KvCache, hook: ActivationHook | None = None
    ) -> Tensor:
        """Writes the step's keys and values, returns logits [R, V] fp32 of the sampled rows."""
        if hook is not None:
            hook.begin(inputs.real)
        turns = {has_window: table.at(inputs.positions) for has_window, table in self._rotary.items()}
        x = store.embedding.index_select(0, inputs.tokens).to(store.arithmetic.activations)
        if self._spec.embedding_scale != 1:
            # Rounded like the activations, as the model was trained: 33.9 for Gemma 3's 1152 channels becomes 34 in bf16.
            x = x * torch.tensor(self._spec.embedding_scale, dtype=x.dtype)
        for index, layer in enumerate(store.layers):
            x = self._attention(x, turns[self._spec.window(index) > 0], inputs, index, layer, kv, hook)
            x = self._mlp(x, index, layer, hook)
        return self._logits(x.index_select(0, inputs.sampled), store)

    def _attention(
        self,
        x: Tensor,
        turns: Tensor,
        inputs: StepInputs,
        index: int,
        layer: LayerWeights,
        kv: KvCache,
        hook: ActivationHook | None,
    ) -> Tensor:
        spec = self._spec
        h = rms_norm(x, layer.attention_norm, spec.norm_eps)
        if hook is not None:
            h = hook(index, Site.ATTENTION_IN, h)
        heads, key_heads = spec.num_heads, spec.num_key_heads
        qkv = layer.qkv(h).view(-1, heads + 2 * key_heads, spec.head_dim)
        turning = qkv[:, : heads + key_heads]
        if layer.q_norm is not None and layer.k_norm is not None:
            q_norm = rms_norm(turning[:, :heads], layer.q_norm, spec.norm_eps)
            turning = torch.cat((q_norm, rms_norm(turning[:, heads:], layer.k_norm, spec.norm_eps)), dim=1)
        turned = rotate_pairs(turning, turns)
        keys_values = torch.empty(x.shape[0], 2, key_heads, spec.head_dim, dtype=kv.dtype)
        keys_values[:, 0] = turned[:, heads:]
        keys_values[:, 1] = qkv[:, heads + key_heads :]
        kv.write(index, inputs.slots, keys_values)
        queries = turned[:, :heads].to(kv.dtype)
        mixed = attend(queries, kv.pages[index], inputs.groups[spec.window(index)], spec.attention_scale).to(x.dtype)
        if hook is not None:
            mixed = hook(index, Site.ATTENTION_OUT, mixed)
        return x + self._normed(layer.output(mixed), layer.attention_out_norm)

    def _mlp(self, x: Tensor, index: int, layer: LayerWeights, hook: ActivationHook | None) -> Tensor:
        h = rms_norm(x, layer.mlp_norm, self._spec.norm_eps)
        if hook is not None:
            h = hook(index, Site.MLP_IN, h)
        gate, up = layer.gate_up(h).chunk(2, dim=-1)
        if self._spec.activation is Activation.SILU:
            middle = functional.silu(gate).mul_(up)
        else:
            middle = functional.gelu(gate, approximate="tanh").mul_(up)
        if hook is not None:
            middle = hook(index, Site.MLP_MIDDLE, middle)
        return x + self._normed(layer.down(middle), layer.mlp_out_norm)

    def _normed(self, x: Tensor, gain: Tensor | None) -> Tensor:
        return x if gain is None else rms_norm(x, gain, self._spec.norm_eps)

    def _logits(self, x: Tensor, store: WeightStore) -> Tensor:
        rows = x.shape[0]
        if rows == 0:
            return torch.empty(0, self._spec.vocab_size)
        x = rms_norm(x, store.norm, self._spec.norm_eps)
        pieces: list[Tensor] = []
        for part in torch.split(x, HEAD_ROWS):
            padding = store.head_rows.pad(part.shape[0]) - part.shape[0]
            padded = functional.pad(part, (0, 0, 0, padding)) if padding else part
            scores = store.head(padded)[: part.shape[0]]
            pieces.append(scores.float() if store.head_matrix is None else settle_ties(scores, part, store.head_matrix))
        logits = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
        if self._spec.logit_softcap is None:
            return logits
        return logits.div_(self._spec.logit_softcap).tanh_().mul_(self._spec.logit_softcap)


def _rotary_table(spec: ModelSpec, rope: Rope, max_positions: int) -> RotaryTable:
    return RotaryTable(speeds(rope, spec.head_dim), max_positions, gain(rope))


def settle_ties(scores: Tensor, x: Tensor, head: Tensor) -> Tensor:
    """Computes anew, in fp32, each row's largest logits. scores: [R, V] bf16, x: [R, C], head: [V, C]; returns [R, V] fp32.

    bf16 holds logits of 16 to 32 in steps of 1/8, so the two likeliest tokens are often equal: it made the demo model answer
    "L'Etoile" where fp32 says "Paris". Rounding moves a logit by half a step at most, so the true largest is within one step
    of the largest as rounded, and what lies further below cannot overtake it.
    """
    logits = scores.float()
    best = logits.amax(dim=-1, keepdim=True)
    rows, tokens = torch.nonzero(logits >= best - best.abs() * _BF16_STEP, as_tuple=True)
    exact = head.index_select(0, tokens).float() * x.index_select(0, rows).float()
    logits[rows, tokens] = exact.sum(-1)
    return logits
