"""The native step: what plan_step and Forward are to torch, in one call."""

import ctypes
import threading
import weakref
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from inference_node.kernels.native.build import NativeUnavailable
from inference_node.kernels.native.library import SITES, KvConversionArgs, StepArgs, load
from inference_node.model.forward import ActivationHook, TokenRun
from inference_node.model.kv_cache import KvCache, KvLayout
from inference_node.model.native_weights import NativeStore
from inference_node.model.spec import ModelSpec
from inference_node.pruning.prune import Pruner
from inference_node.pruning.thresholds import Site


@dataclass(frozen=True, slots=True)
class NativeOutput:
    """tokens: the likeliest of each sampled row; best: its logit, NaN when the row holds no number.

    logits: [R, V] fp32 when they were asked for.
    """

    tokens: list[int]
    best: list[float]
    logits: Tensor | None


def stages(spec: ModelSpec) -> tuple[str, ...]:
    """What one step with a prompt runs inside its one call, all threads waiting for one another after each: Forward::work of
    csrc/step.h. Where every row decodes, head norms and rope are part of the attention; a single row is normed by each thread."""
    layer = (
        "norm, prune",
        "qkv product",
        "head norms, rope, cache",
        "attention, prune",
        "output product, add",
        "norm, prune",
        "gate and up products, SiLU, prune",
        "down product, add",
    )
    return ("embedding", *(layer * spec.num_layers), "norm", "head product, likeliest token")


class NativeForward:
    """Threads and buffers of one stream of steps; one call at a time, from any thread."""

    def __init__(
        self,
        spec: ModelSpec,
        threads: int,
        *,
        use_amx: bool = True,
        cpus: Collection[int] | None = None,
        walk_above: float | None = None,
    ) -> None:
        """cpus: as many as threads, or more. Each thread that is started keeps to one; the caller's has the first to itself.

        walk_above: the share of a matrix's inputs above which a single row reads all of them rather than skipping the others;
        None is what pays on this processor. It changes no bit.
        """
        self._spec = spec
        # Inputs of each site, in the order of Site.
        hidden, attention = spec.hidden_size, spec.num_heads * spec.head_dim
        self._widths = (hidden, attention, hidden, spec.intermediate_size)
        library = load()
        if isinstance(library, NativeUnavailable):
            raise library
        self._library = library
        self._engine = library.make("tt_engine_new", threads, int(use_amx), -1.0 if walk_above is None else walk_above)
        self._lock = threading.Lock()
        weakref.finalize(self, library.free, "tt_engine_free", self._engine)
        if cpus is not None and len(cpus) >= threads:
            library.pin(self._engine, sorted(cpus))

    def __call__(
        self,
        runs: Sequence[TokenRun],
        store: NativeStore,
        kv: KvCache,
        *,
        pruner: Pruner | None = None,
        with_logits: bool = True,
        every_token: bool = False,
        capture: Sequence[Tensor] | None = None,
    ) -> NativeOutput:
        """Writes the runs' keys and values and returns what the sampled rows say.

        capture: for each layer and site, in order, a tensor [rows, inputs] fp32 to copy that site's activations into.
        """
        cutoffs = None if pruner is None else pruner.taus
        tokens = torch.tensor([*chain.from_iterable(run.tokens for run in runs)], dtype=torch.int64)
        positions = torch.tensor(
            [*chain.from_iterable(range(run.start, run.start + len(run.tokens)) for run in runs)], dtype=torch.int64
        )
        table: list[int] = []
        placed: list[int] = []
        sampled: list[int] = []
        row = 0
        for run in runs:
            count = len(run.tokens)
            placed += (row, run.start, count, len(table))
            table += run.block_table[: -(-(run.start + count) // kv.block_size)]
            row += count
            if run.samples:
                sampled.append(row - 1)
        if every_token:
            sampled = list(range(row))
        num_layers = kv.pages.shape[0]
        tables, places = torch.tensor(table, dtype=torch.int32), torch.tensor(placed, dtype=torch.int32)
        ends = torch.tensor(sampled, dtype=torch.int64)
        logits = torch.empty(len(sampled), self._spec.vocab_size) if with_logits else None
        best, best_logit = torch.empty(len(sampled), dtype=torch.int32), torch.empty(len(sampled))
        kept = None if cutoffs is None else torch.empty(num_layers, SITES, dtype=torch.int64)
        pointers = None if capture is None else (ctypes.c_void_p * len(capture))(*(c.data_ptr() for c in capture))
        step = StepArgs(
            rows=row,
            sampled_rows=len(sampled),
            num_runs=len(runs),
            tokens=tokens.data_ptr(),
            positions=positions.data_ptr(),
            sampled=ends.data_ptr(),
            runs=places.data_ptr(),
            tables=tables.data_ptr(),
            pages=kv.pages.data_ptr(),
            layer_stride=kv.pages.stride(0) * kv.pages.itemsize,
            block_size=kv.block_size,
            narrow=int(kv.dtype == torch.int8),
            logits=None if logits is None else logits.data_ptr(),
            best=best.data_ptr(),
            best_logit=best_logit.data_ptr(),
            cutoffs=None if cutoffs is None else cutoffs.data_ptr(),
            kept=None if kept is None else kept.data_ptr(),
            capture=None if pointers is None else ctypes.addressof(pointers),
        )
        with self._lock:
            self._library.call("tt_step", self._engine, store.handle, ctypes.byref(step))
        if pruner is not None and kept is not None:
            pruner.feed(kept, self._widths, row)
        if (cap := self._spec.logit_softcap) is not None:  # it rises, so the likeliest stays the likeliest
            best_logit = best_logit.div_(cap).tanh_().mul_(cap)
            logits = None if logits is None else logits.div_(cap).tanh_().mul_(cap)
        return NativeOutput(best.tolist(), best_logit.tolist(), logits)

    def converts(self, kv: KvCache, dtype: torch.dtype, layout: KvLayout) -> bool:
        """Whether `convert` brings a cache into that form."""
        return kv.layout is layout is KvLayout.TILES and {kv.dtype, dtype} == {torch.bfloat16, torch.int8}

    def convert(self, kv: KvCache, dtype: torch.dtype, blocks: Sequence[int]) -> None:
        """As KvCache.convert, with the same bits, in a tenth of the time: a step waits for it."""
        old, wanted = kv.renew(dtype, kv.layout), torch.tensor(blocks, dtype=torch.int32)
        conversion = KvConversionArgs(
            source=old.data_ptr(),
            target=kv.pages.data_ptr(),
            source_stride=old.stride(0) * old.itemsize,
            target_stride=kv.pages.stride(0) * kv.pages.itemsize,
            layers=old.shape[0],
            block_size=kv.block_size,
            key_heads=kv.num_heads,
            dim=kv.head_dim,
            narrow=int(dtype == torch.int8),
            blocks=wanted.data_ptr(),
            count=len(blocks),
        )
        with self._lock:
            self._library.call("tt_convert_kv", self._engine, ctypes.byref(conversion))

    def watched(
        self, run: TokenRun, store: NativeStore, kv: KvCache, hook: ActivationHook | None, *, every_token: bool
    ) -> Tensor:
        """One run under a hook: a pruner cuts within the step, any other is shown each site's activations after it."""
        if hook is None or isinstance(hook, Pruner):
            logits = self([run], store, kv, pruner=hook, every_token=every_token).logits
            assert logits is not None
            return logits
        rows = len(run.tokens)
        seen = [torch.empty(rows, width) for _ in range(self._spec.num_layers) for width in self._widths]
        logits = self([run], store, kv, every_token=every_token, capture=seen).logits
        assert logits is not None
        hook.begin(rows)
        for place, activations in enumerate(seen):
            layer, site = divmod(place, SITES)
            hook(layer, list(Site)[site], activations)
        return logits
