"""Steps as CUDA graphs: one for each size, captured once for a format of weights, replayed with other numbers.

Graphs burn in addresses. So whatever they read or write, weights apart, is allocated here or in what is passed in, once,
and a set of graphs dies with the weights it was captured with.
"""

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inference_node.kernels.gpu.attention import queries_per_tile
from inference_node.kernels.gpu.likeliest import likeliest
from inference_node.model.gpu.blank import shortened
from inference_node.model.gpu.device import beside_steps, here, spare_memory
from inference_node.model.gpu.forward import Cuts, StepTensors, Workspace, forward
from inference_node.model.gpu.kv_cache import GpuKvCache
from inference_node.model.gpu.shapes import EVERY_SHAPE, MAX_RUNS, Run, StepShape, shape_for, stand_in
from inference_node.model.gpu.store import GpuStore
from inference_node.model.spec import ModelSpec

# Steps whose tokens are on the device still: the one that runs and those before it that the next takes tokens from.
_KEPT_STEPS = 16
# Steps that tell which sizes are in use.
_RECENT = 256


class Tables:
    """Block tables on the device, one line a sequence, and the host's view of them. The last line is scratch, for padding."""

    def __init__(self, kv: GpuKvCache, max_model_len: int) -> None:
        self.width = -(-max_model_len // kv.block_size) + 1
        self.scratch_line = MAX_RUNS
        self.device = torch.full((MAX_RUNS + 1, self.width), kv.scratch_block, device=here(), dtype=torch.int32)
        self._host = torch.full((MAX_RUNS + 1, self.width), kv.scratch_block, dtype=torch.int32).pin_memory()
        self._numbers: NDArray[np.int32] = self._host.numpy()
        self._known: list[list[int]] = [[] for _ in range(MAX_RUNS)]
        self._dirty: set[int] = set()
        self._copied = torch.cuda.Event()

    def write(self, line: int, blocks: Sequence[int]) -> None:
        """Before the step that uses it is launched."""
        known = self._known[line]
        if known == blocks:
            return
        if not self._dirty:
            self._copied.synchronize()  # what was written before has left the host's memory
        same = len(known) if known == blocks[: len(known)] else 0
        self._numbers[line, same : len(blocks)] = blocks[same:]
        self._known[line] = list(blocks)
        self._dirty.add(line)

    def upload(self) -> None:
        if not self._dirty:
            return
        if len(self._dirty) > 8:
            self.device[:-1].copy_(self._host[:-1], non_blocking=True)
        else:
            for line in self._dirty:
                self.device[line].copy_(self._host[line], non_blocking=True)
        self._dirty.clear()
        self._copied.record()


@dataclass(frozen=True, slots=True)
class _Captured:
    graph: torch.cuda.CUDAGraph
    inputs: Tensor
    logits: Tensor
    outputs: Tensor


@dataclass(frozen=True, slots=True)
class Launched:
    """A step on its way. first: where its sampled rows' tokens stand in `last`; logits are valid until the next launch."""

    first: int
    count: int
    logits: Tensor
    host: Tensor
    done: torch.cuda.Event

    def wait(self, num_cuts: int) -> tuple[list[int], list[float], Tensor]:
        """(likeliest tokens of the sampled rows, their logits, entries that each site kept), once it is computed."""
        self.done.synchronize()
        outputs = (self.host.shape[0] - num_cuts) // 2
        tokens = self.host[: self.count].tolist()
        best = self.host[outputs : outputs + self.count].view(torch.float32).tolist()
        return tokens, best, self.host[2 * outputs :].clone()


class StepPool:
    """What all formats' graphs share: tables, cut-offs, scratch, and the tokens that steps leave on the device."""

    def __init__(self, spec: ModelSpec, kv: GpuKvCache, max_model_len: int) -> None:
        self.spec = spec
        self.tables = Tables(kv, max_model_len)
        self.cuts = Cuts.none(spec)
        self.work = Workspace(spec)
        self.last = torch.zeros(_KEPT_STEPS * MAX_RUNS, device=here(), dtype=torch.int32)
        self.memory = torch.cuda.graph_pool_handle()
        self.capturing = threading.Lock()
        # Captures follow one another on one stream, since torch keeps freed memory apart by stream.
        self.stream = torch.cuda.Stream()
        self._anchor = self._captured_anchor()
        self._next = 0

    def _captured_anchor(self) -> torch.cuda.CUDAGraph:
        """A graph that does nothing of use: memory shared by graphs is gone for good with the last of them."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.stream(self.stream):
            graph.capture_begin(pool=self.memory, capture_error_mode="thread_local")
            self.last.zero_()
            graph.capture_end()
        return graph

    def place(self) -> int:
        """Where the next step's tokens go."""
        self._next = (self._next + 1) % _KEPT_STEPS
        return self._next * MAX_RUNS


class Steps:
    """The graphs of one format of weights, over one cache. `launch` is for the thread that steps; `capture` may run beside."""

    def __init__(self, pool: StepPool, kv: GpuKvCache) -> None:
        """kv: of as many blocks as the pool's tables are made for."""
        self._pool, self._kv = pool, kv
        self._graphs: dict[StepShape, _Captured] = {}
        # Of the last steps the sizes that fit them best; and of those the ones that others had to stand in for.
        self.recent: deque[StepShape] = deque(maxlen=_RECENT)
        self._missed: dict[StepShape, None] = {}
        self._hosts: dict[int, list[tuple[Tensor, torch.cuda.Event]]] = {}

    def __len__(self) -> int:
        return len(self._graphs)

    def __contains__(self, shape: StepShape) -> bool:
        return shape in self._graphs

    def missing(self) -> StepShape | None:
        """The size to capture next, or None when all are: first what steps would have used."""
        return next((shape for shape in (*self._missed, *EVERY_SHAPE) if shape not in self._graphs), None)

    def graph(self, shape: StepShape) -> torch.cuda.CUDAGraph:
        """Of a size that was captured; it computes whatever the last launch was given, again."""
        return self._graphs[shape].graph

    def graphs(self) -> list[torch.cuda.CUDAGraph]:
        return [captured.graph for captured in self._graphs.values()]

    def launch(self, runs: Sequence[Run], store: GpuStore, *, prunes: bool = False) -> Launched:
        """Computes runs whose lines of the tables are written. Captures first where no graph holds them."""
        pool = self._pool
        shape = self._captured_for(shape_for(runs, prunes=prunes), store)
        captured = self._graphs[shape]
        pool.tables.upload()
        given = self._host(captured.inputs.shape[0])
        self._fill(given.numpy(), shape, runs)
        captured.inputs.copy_(given, non_blocking=True)
        captured.graph.replay()
        first, count = pool.place(), sum(run.samples for run in runs)
        pool.last[first : first + shape.outputs].copy_(captured.outputs[: shape.outputs])
        host = self._host(captured.outputs.shape[0])
        host.copy_(captured.outputs, non_blocking=True)
        done = torch.cuda.Event()
        done.record()
        self._release(given, done)
        self._release(host, done)
        return Launched(first, count, captured.logits[:count], host, done)

    def _captured_for(self, shape: StepShape, store: GpuStore) -> StepShape:
        self.recent.append(shape)
        if shape in self._graphs:
            return shape
        # A copy, for another thread may capture meanwhile.
        other = stand_in(shape, tuple(self._graphs))
        if other is None:
            self.capture(shape, store)
            return shape
        self._missed[shape] = None
        return other

    def capture(self, shape: StepShape, store: GpuStore) -> None:
        """Some tenths of a second; the first time for a model, some seconds of compilation."""
        pool = self._pool
        with pool.capturing:
            if shape in self._graphs:
                return
            spare_memory()
            inputs = self._blank_inputs(shape)
            # Few layers, so that the engine's steps hardly notice. Not on the stream of captures: cuBLAS keeps its workspace by
            # stream, and what it remembers there of a product that runs would be written over by graphs replayed meanwhile.
            with beside_steps():
                self._try(shape, inputs, shortened(store, pool.spec))
            stream = pool.stream
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                pool.work.decode(shape.rows)
                graph = torch.cuda.CUDAGraph()
                # Not by torch.cuda.graph, which first stops the device and gives all cached memory back.
                graph.capture_begin(pool=pool.memory, capture_error_mode="thread_local")
                try:
                    logits, outputs = self._compute(shape, inputs, store, pool.work, pool.cuts)
                finally:
                    graph.capture_end()
            torch.cuda.current_stream().wait_stream(stream)
            self._graphs[shape] = _Captured(graph, inputs, logits, outputs)

    def compile(self, shape: StepShape, store: GpuStore) -> None:
        """Compiles and loads the kernels of this size, beside steps: seconds where Triton's cache does not hold them."""
        with beside_steps():
            self._try(shape, self._blank_inputs(shape), store)

    def _blank_inputs(self, shape: StepShape) -> Tensor:
        blank = np.zeros(self._length(shape), dtype=np.int32)
        self._fill(blank, shape, ())
        return torch.from_numpy(blank).to(here())

    def _try(self, shape: StepShape, inputs: Tensor, store: GpuStore) -> None:
        """Once for real, which compiles and loads every kernel; with buffers of its own, since steps may run at the same time."""
        self._compute(shape, inputs, store, Workspace(self._pool.spec), Cuts.none(self._pool.spec))

    def _compute(
        self, shape: StepShape, inputs: Tensor, store: GpuStore, work: Workspace, cuts: Cuts
    ) -> tuple[Tensor, Tensor]:
        pool = self._pool
        cuts.kept.zero_()
        logits = forward(
            pool.spec, self._tensors(shape, inputs), pool.last, store, self._kv, cuts, work, skips=shape.skips
        )
        best, tokens = likeliest(logits)
        return logits, torch.cat((tokens, best.view(torch.int32), cuts.kept))

    def _tensors(self, shape: StepShape, inputs: Tensor) -> StepTensors:
        rows, tables = shape.rows, self._pool.tables.device
        tokens, sources, positions, runs = inputs[: 4 * rows].view(4, rows)
        real = inputs[4 * rows : 4 * rows + 1]
        if shape.sampled is None:
            return StepTensors(tokens, sources, positions, runs, real, tables, None, None)
        begin = 4 * rows + 4
        sampled = inputs[begin : begin + shape.sampled]
        tiles = inputs[begin + shape.sampled :].view(4, -1)
        return StepTensors(tokens, sources, positions, runs, real, tables, tiles, sampled)

    def _length(self, shape: StepShape) -> int:
        if shape.sampled is None:
            return 4 * shape.rows + 4
        return 4 * shape.rows + 4 + shape.sampled + 4 * self._num_tiles(shape)

    def _num_tiles(self, shape: StepShape) -> int:
        return -(-shape.rows // self._tile) + min(shape.rows, MAX_RUNS)

    @property
    def _tile(self) -> int:
        spec = self._pool.spec
        return queries_per_tile(spec.num_heads // spec.num_key_heads, spec.head_dim)

    def _fill(self, given: NDArray[np.int32], shape: StepShape, runs: Sequence[Run]) -> None:
        rows = shape.rows
        tokens, sources, positions, lines = given[: 4 * rows].reshape(4, rows)
        if shape.sampled is None:
            real = len(runs)
            tokens[:real] = [run.tokens[0] for run in runs]
            sources[:real] = [run.source for run in runs]
            positions[:real] = [run.start for run in runs]
            lines[:real] = [run.line for run in runs]
        else:
            real = self._fill_mixed(given, shape, runs)
        tokens[real:], sources[real:], positions[real:] = 0, -1, 0
        lines[real:] = self._pool.tables.scratch_line
        given[4 * rows] = real

    def _fill_mixed(self, given: NDArray[np.int32], shape: StepShape, runs: Sequence[Run]) -> int:
        assert shape.sampled is not None
        rows, most = shape.rows, self._tile
        tokens, sources, positions, lines = given[: 4 * rows].reshape(4, rows)
        begin = 4 * rows + 4
        sampled = given[begin : begin + shape.sampled]
        tiles = given[begin + shape.sampled :].reshape(4, -1)
        sampled[:], tiles[:] = 0, 0
        row = found = tile = 0
        for run in runs:
            count = len(run.tokens)
            end = row + count
            tokens[row:end], sources[row:end], lines[row:end] = run.tokens, run.source, run.line
            positions[row:end] = np.arange(run.start, run.start + count)
            if run.samples:
                sampled[found] = end - 1
                found += 1
            for offset in range(0, count, most):
                tiles[:, tile] = row + offset, min(most, count - offset), run.start + offset, run.line
                tile += 1
            row = end
        return row

    def _host(self, length: int) -> Tensor:
        """Pinned memory that no copy reads or writes any more."""
        kept = self._hosts.setdefault(length, [])
        if len(kept) >= 4:
            host, done = kept.pop(0)
            done.synchronize()
            return host
        return torch.empty(length, dtype=torch.int32).pin_memory()

    def _release(self, host: Tensor, done: torch.cuda.Event) -> None:
        self._hosts.setdefault(host.shape[0], []).append((host, done))
