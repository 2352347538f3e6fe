"""The native step: what plan_step and Forward are to torch, in one call."""

import ctypes
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from inference_node.kernels.native.build import NativeUnavailable
from inference_node.kernels.native.library import SITES, StepArgs, load
from inference_node.model.forward import TokenRun
from inference_node.model.kv_cache import KvCache
from inference_node.model.native_weights import NativeStore


@dataclass(frozen=True, slots=True)
class NativeOutput:
    """tokens: the likeliest of each sampled row; best: its logit, NaN when the row holds no number.

    logits: [R, V] fp32 when they were asked for. kept: [layers, 4] activations that pruning left, summed over rows.
    """

    tokens: list[int]
    best: list[float]
    logits: Tensor | None
    kept: Tensor | None


class NativeForward:
    """Threads and buffers of one stream of steps; one call at a time, from any thread."""

    def __init__(self, threads: int) -> None:
        library = load()
        if isinstance(library, NativeUnavailable):
            raise library
        self._library = library
        self._engine = library.make("tt_engine_new", threads, 1)
        self._lock = threading.Lock()
        weakref.finalize(self, library.free, "tt_engine_free", self._engine)

    def __call__(
        self,
        runs: Sequence[TokenRun],
        store: NativeStore,
        kv: KvCache,
        *,
        vocab_size: int,
        with_logits: bool,
        every_token: bool = False,
        cutoffs: Tensor | None = None,
        capture: Sequence[Tensor] | None = None,
    ) -> NativeOutput:
        """Writes the runs' keys and values and returns what the sampled rows say.

        cutoffs: [layers, 4] fp32. capture: for each layer and site, in order, a tensor [rows, inputs] fp32 to copy into.
        """
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
        logits = torch.empty(len(sampled), vocab_size) if with_logits else None
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
            layer_stride=kv.pages.stride(0),
            block_size=kv.block_size,
            logits=None if logits is None else logits.data_ptr(),
            best=best.data_ptr(),
            best_logit=best_logit.data_ptr(),
            cutoffs=None if cutoffs is None else cutoffs.data_ptr(),
            kept=None if kept is None else kept.data_ptr(),
            capture=None if pointers is None else ctypes.addressof(pointers),
        )
        with self._lock:
            self._library.call("tt_step", self._engine, store.handle, ctypes.byref(step))
        return NativeOutput(best.tolist(), best_logit.tolist(), logits, kept)
