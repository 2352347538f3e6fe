"""One step on the GPU as a sequence of kernel launches: nothing in it looks at a value, so a CUDA graph can replay it.

Letters: M rows of the step, R rows whose logits are wanted, L layers, C hidden size, V vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from inference_node.kernels.gpu.activation import gated
from inference_node.kernels.gpu.attention import (
    DecodeScratch,
    decode_attention,
    goes_in_bytes,
    prefill_attention,
    splits_for,
)
from inference_node.kernels.gpu.in_bytes import InBytes
from inference_node.kernels.gpu.norm import add_norm, quantize_rows
from inference_node.kernels.gpu.rope import Turning, begin, rope_write
from inference_node.kernels.gpu.tuned import FEW, multiprocessors
from inference_node.model.gpu.device import here
from inference_node.model.gpu.kv_cache import GpuKvCache
from inference_node.model.gpu.products import FP8_ROWS, Product, Products
from inference_node.model.gpu.store import GpuLayer, GpuMatrix, GpuStore, Narrow
from inference_node.model.spec import Activation, ModelSpec
from inference_node.pruning.thresholds import SITES, Site

# Shown what goes into each matrix: layer, site, [M, inputs].
Watcher = Callable[[int, Site, Tensor], None]


@dataclass(frozen=True, slots=True)
class StepTensors:
    """What a step reads, all int32 on the device: tokens, sources, positions and runs [M] as in `rope.begin`; real: [1].

    tables: [runs, blocks]. tiles: [4, T] as in `attention.prefill_attention`, or None when each row is a run of its own.
    sampled: [R], or None for all rows.
    """

    tokens: Tensor
    sources: Tensor
    positions: Tensor
    runs: Tensor
    real: Tensor
    tables: Tensor
    tiles: Tensor | None
    sampled: Tensor | None


@dataclass(frozen=True, slots=True)
class Cuts:
    """taus: [L * 4 + 1] fp32, cut-offs of each layer's sites, and a zero; kept: as many int32, counted since anybody set them."""

    taus: Tensor
    kept: Tensor

    @classmethod
    def none(cls, spec: ModelSpec) -> "Cuts":
        count = spec.num_layers * len(SITES) + 1
        return cls(torch.zeros(count, device=here()), torch.zeros(count, device=here(), dtype=torch.int32))

    def at(self, layer: int, site: Site) -> tuple[Tensor, Tensor]:
        place = layer * len(SITES) + SITES.index(site)
        return self.taus[place : place + 1], self.kept[place : place + 1]

    @property
    def end(self) -> tuple[Tensor, Tensor]:
        return self.taus[-1:], self.kept[-1:]


class Workspace:
    """Buffers that one stream of steps reuses from launch to launch; two streams need one each."""

    def __init__(self, spec: ModelSpec) -> None:
        device = here()
        self._spec, self._device = spec, device
        self.products = Products(device, max(spec.vocab_size, 2 * spec.intermediate_size, spec.qkv_features))
        self._scratch: dict[int, DecodeScratch] = {}

    def decode(self, rows: int) -> DecodeScratch:
        if rows not in self._scratch:
            splits = splits_for(rows, self._spec.num_key_heads, multiprocessors())
            self._scratch[rows] = DecodeScratch(
                rows, self._spec.num_heads, self._spec.num_key_heads, self._spec.head_dim, splits, self._device
            )
        return self._scratch[rows]


def forward(
    spec: ModelSpec,
    step: StepTensors,
    last: Tensor,
    store: GpuStore,
    kv: GpuKvCache,
    cuts: Cuts,
    work: Workspace,
    watch: Watcher | None = None,
    *,
    skips: bool = False,
) -> Tensor:
    """Launches a step on the current stream: writes its keys and values, returns logits [R, V] fp32.

    last: int32, tokens that earlier steps left on the device. skips: see `Products`.
    """
    residual, slots = begin(
        step.tokens,
        step.sources,
        last,
        step.positions,
        step.runs,
        step.tables,
        store.embedding,
        _factor(spec),
        kv.block_size,
    )
    run = _Run(spec, step, slots, store, kv, cuts, work, watch, skips)
    delta: Product | None = None
    out_gain: Tensor | None = None
    for index, layer in enumerate(store.layers):
        delta = run.attention(index, layer, residual, delta, out_gain)
        delta = run.mlp(index, layer, residual, delta)
        out_gain = layer.mlp_out_norm
    in_bytes = step.sampled is None and work.products.takes_bytes(residual.shape[0], store.head)
    x, _ = run.normed(residual, delta, out_gain, store.norm, cuts.end, fp8=False, in_bytes=in_bytes)
    if step.sampled is not None:
        assert isinstance(x, Tensor)
        x = x.index_select(0, step.sampled)
    logits = work.products.logits(x, store.head)
    if spec.logit_softcap is not None:
        logits = logits.div_(spec.logit_softcap).tanh_().mul_(spec.logit_softcap)
    return logits


@dataclass(frozen=True, slots=True)
class _Run:
    spec: ModelSpec
    step: StepTensors
    slots: Tensor
    store: GpuStore
    kv: GpuKvCache
    cuts: Cuts
    work: Workspace
    watch: Watcher | None
    skips: bool

    def normed(
        self,
        residual: Tensor,
        delta: Product | None,
        delta_gain: Tensor | None,
        gain: Tensor,
        cut: tuple[Tensor, Tensor],
        *,
        fp8: bool,
        in_bytes: bool,
    ) -> tuple[Tensor | InBytes, Tensor | None]:
        return add_norm(
            residual, None if delta is None else delta.rows, gain, self.spec.norm_eps, *cut, self.step.real,
            delta_scales=None if delta is None else delta.scales, delta_bias=None if delta is None else delta.bias,
            delta_gain=delta_gain, fp8=fp8, in_bytes=in_bytes, least_rows=FP8_ROWS if fp8 else 1,
        )  # fmt: skip

    def attention(
        self, index: int, layer: GpuLayer, residual: Tensor, delta: Product | None, delta_gain: Tensor | None
    ) -> Product:
        spec, step, kv = self.spec, self.step, self.kv
        fp8, in_bytes = self._is_fp8(layer.qkv, residual), self._in_bytes(layer.qkv, residual)
        cut = self.cuts.at(index, Site.ATTENTION_IN)
        h, h_scale = self.normed(residual, delta, delta_gain, layer.attention_norm, cut, fp8=fp8, in_bytes=in_bytes)
        self._show(index, Site.ATTENTION_IN, h, h_scale)
        # With many rows one launch more is nothing, and attention that turns as well has too few registers.
        turns = step.tiles is None and residual.shape[0] <= FEW
        qkv = self.work.products(h, h_scale, layer.qkv, self.store.bits, skips=self.skips, at_once=turns)
        window = spec.window(index)
        gains = None if layer.q_norm is None or layer.k_norm is None else (layer.q_norm, layer.k_norm)
        pages, page_scales = kv.pages[index], kv.scales[index]
        turning = Turning(
            self.store.local_turns if window else self.store.turns, spec.attention_scale, spec.norm_eps, qkv.scales, qkv.bias,
            gains,
        )  # fmt: skip
        cut = self.cuts.at(index, Site.ATTENTION_OUT)
        mixed: Tensor | InBytes
        given: Tensor = qkv.rows
        if not turns:
            given = rope_write(qkv.rows, turning, step.positions, self.slots, pages, page_scales, spec.num_heads)
        if step.tiles is None:
            mixed = decode_attention(
                given, pages, page_scales, step.positions, step.runs, step.tables, self.work.decode(residual.shape[0]), *cut,
                step.real, window, turning=turning if turns else None,
                in_bytes=in_bytes and goes_in_bytes(spec.num_heads, spec.head_dim),
            )  # fmt: skip
        else:
            mixed = prefill_attention(given, pages, page_scales, step.tiles, step.tables, *cut, window)
        mixed_scale: Tensor | None = None
        if fp8:
            assert isinstance(mixed, Tensor)
            mixed, mixed_scale = quantize_rows(mixed, least_rows=FP8_ROWS)
        self._show(index, Site.ATTENTION_OUT, mixed, mixed_scale)
        return self.work.products(mixed, mixed_scale, layer.output, self.store.bits, skips=self.skips)

    def mlp(self, index: int, layer: GpuLayer, residual: Tensor, delta: Product) -> Product:
        fp8, in_bytes = self._is_fp8(layer.gate_up, residual), self._in_bytes(layer.gate_up, residual)
        cut = self.cuts.at(index, Site.MLP_IN)
        h, h_scale = self.normed(
            residual, delta, layer.attention_out_norm, layer.mlp_norm, cut, fp8=fp8, in_bytes=in_bytes
        )
        self._show(index, Site.MLP_IN, h, h_scale)
        opened = self.work.products(h, h_scale, layer.gate_up, self.store.bits, skips=self.skips)
        middle, middle_scale = gated(
            opened.rows, *self.cuts.at(index, Site.MLP_MIDDLE), self.step.real,
            gelu=self.spec.activation is Activation.GELU_TANH, scales=opened.scales, bias=opened.bias, fp8=fp8,
            in_bytes=in_bytes, least_rows=FP8_ROWS if fp8 else 1,
        )  # fmt: skip
        self._show(index, Site.MLP_MIDDLE, middle, middle_scale)
        return self.work.products(middle, middle_scale, layer.down, self.store.bits, skips=self.skips)

    def _is_fp8(self, matrix: GpuMatrix, residual: Tensor) -> bool:
        """Whether activations are narrowed too. One row is bound by the weights alone, and better off without."""
        return isinstance(matrix.weight, Narrow) and residual.shape[0] > 1

    def _in_bytes(self, matrix: GpuMatrix, residual: Tensor) -> bool:
        """Whether activations are rounded to bytes where they are made. Who watches wants them as they were."""
        return self.watch is None and self.work.products.takes_bytes(residual.shape[0], matrix)

    def _show(self, index: int, site: Site, x: Tensor | InBytes, scale: Tensor | None) -> None:
        if self.watch is not None:
            assert isinstance(x, Tensor)
            seen = x.float() if scale is None else x[: scale.shape[0]].float() * scale.unsqueeze(1)
            self.watch(index, site, seen)


def _factor(spec: ModelSpec) -> float:
    # Rounded like the activations, as the model was trained: 33.9 for Gemma 3's 1152 channels becomes 34 in bf16.
    return float(torch.tensor(spec.embedding_scale, dtype=torch.bfloat16))
