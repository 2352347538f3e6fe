"""The engine's steps on a GPU, one ahead of what it has asked for.

While the host reads the tokens of step n, the device computes step n + 1 already: the same sequences, each with the token
that step n left on the device. When the engine then asks for step n + 1 it finds its rows computed; those it asks for
beside them run as a step of their own, and rows of sequences that ended meanwhile are thrown away. They wrote to a place
behind the sequence's end, in a block that nobody else reads before writing it.
"""

import contextlib
import sys
import weakref
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

import torch
from torch import Tensor

from inference_node.contract.settings import KvPrecision, Precision
from inference_node.kernels.gpu.attention import queries_per_tile
from inference_node.model.backend import Store
from inference_node.model.forward import ActivationHook, TokenRun
from inference_node.model.gpu.blank import blank, shortened
from inference_node.model.gpu.device import beside_steps, has_fp8, here, spare_memory
from inference_node.model.gpu.forward import Cuts, StepTensors, Workspace, forward
from inference_node.model.gpu.kv_cache import GpuKvCache, entries_of
from inference_node.model.gpu.shapes import EVERY_SHAPE, MAX_RUNS, PREFILL_ROWS, Run, StepShape, first_shapes
from inference_node.model.gpu.steps import Launched, StepPool, Steps
from inference_node.model.gpu.store import GpuStore, convert
from inference_node.model.runner import ModelRunner, Numerics
from inference_node.model.sampler import SampledToken, SampleRequest, pick, sample
from inference_node.model.spec import ModelSpec
from inference_node.pruning.prune import Pruner
from inference_node.pruning.thresholds import SITES, Site
from inference_node.scheduling.batch import ScheduledBatch
from inference_node.scheduling.sequence import Sequence

_SWITCH_S = 0.0002


@dataclass(frozen=True, slots=True)
class _Piece:
    """A launched step; `rows` of the batch, by index, in the order of its sampled rows. scores: logits where they are needed."""

    launched: Launched
    rows: tuple[int, ...]
    scores: Mapping[int, Tensor]


class _Form:
    """Keys and values with entries of one kind, and the steps that were captured over them: graphs burn in addresses."""

    def __init__(self, pool: StepPool, kv: GpuKvCache) -> None:
        self._pool, self.kv = pool, kv
        self._steps: weakref.WeakKeyDictionary[GpuStore, Steps] = weakref.WeakKeyDictionary()

    def steps_of(self, store: GpuStore) -> Steps:
        if store not in self._steps:
            self._steps[store] = Steps(self._pool, self.kv)
        return self._steps[store]

    def graphs(self) -> list[torch.cuda.CUDAGraph]:
        return [graph for steps in self._steps.values() for graph in steps.graphs()]

    def __len__(self) -> int:
        return sum(len(steps) for steps in self._steps.values())


@dataclass(frozen=True, slots=True)
class _Ahead:
    """A step that nobody asked for yet. places: of each sequence, the position it computes and its row."""

    launched: Launched
    places: Mapping[Sequence, tuple[int, int]]


class GpuRunner(ModelRunner):
    """Runs steps on the current CUDA device, on the thread that calls it. Interface and meaning are ModelRunner's."""

    tokens_ahead = 1

    def __init__(
        self,
        spec: ModelSpec,
        store: GpuStore,
        *,
        num_blocks: int,
        block_size: int,
        max_model_len: int,
        kv: KvPrecision = KvPrecision.MODEL,
    ) -> None:
        self.spec = spec
        self._numerics = Numerics(store, None, kv)
        self._max_model_len = max_model_len
        cache = GpuKvCache(spec, entries_of(kv), num_blocks=num_blocks, block_size=block_size)
        self.pool = StepPool(spec, cache, max_model_len)
        # What steps run over, and what is made ready for a change of the format of keys and values.
        self._form = _Form(self.pool, cache)
        self._next: _Form | None = None
        # Of pages that are gone. Taking one apart takes the driver a millisecond, so that is done beside steps, one by one.
        self._spent: list[torch.cuda.CUDAGraph] = []
        self.kv = cache  # type: ignore[assignment]  # the same to whoever asks for its sizes and its dtype
        self._lines: dict[Hashable, int] = {}
        self._free = list(range(MAX_RUNS - 1, -1, -1))
        self._ahead: _Ahead | None = None
        self.looks_ahead = True
        # How many rows were computed ahead, and how many of them were of use.
        self.rows_ahead = self.rows_hit = 0

    def switch(self, numerics: Numerics, used_blocks: list[int]) -> bool:
        # What was computed ahead was so by the old arithmetic.
        self._ahead = None
        self._numerics = numerics
        self._cut(numerics.pruner)
        if entries_of(numerics.kv) == self.gpu_kv.dtype:
            return False
        form = self._form_with(numerics.kv) or _Form(self.pool, self.gpu_kv.like(entries_of(numerics.kv)))
        torch.cuda.current_stream().synchronize()
        form.kv.take(self.gpu_kv, used_blocks)
        # The old pages belong to another stream's memory, which may be handed out again at once.
        torch.cuda.current_stream().synchronize()
        self._spent += self._form.graphs()
        self._form, self._next = form, None
        self.kv = form.kv  # type: ignore[assignment]
        return True

    @property
    def gpu_kv(self) -> GpuKvCache:
        return self._form.kv

    @property
    def captures(self) -> int:
        """Steps that were made ready so far, for all formats that are loaded."""
        return len(self._form) + (0 if self._next is None else len(self._next))

    def capture(self, store: GpuStore, shapes: Iterable[StepShape]) -> None:
        """Prepares steps of these sizes, so that the first of them takes no longer than the others. May run beside steps."""
        steps = self.steps_of(store)
        for shape in shapes:
            steps.capture(shape, store)

    def warm(self, store: Store) -> None:
        assert isinstance(store, GpuStore)
        with _interpreter_shared():
            # The largest first: smaller ones then fit into the memory that it took.
            self.capture(store, reversed(EVERY_SHAPE))

    def compile(self, precisions: Iterable[Precision], progress: Callable[[float], None]) -> None:
        """A first change to a format would else wait for the compiler: 4.6 s for int8 on an H100."""
        empty = blank(shortened(self._store, self.spec), self.spec)
        kinds = (KvPrecision.MODEL, KvPrecision.FP8) if has_fp8() else (KvPrecision.MODEL,)
        caches = {kv: self.gpu_kv.like(entries_of(kv), layers=len(empty.layers)) for kv in kinds}
        running = (self._store.precision, self._numerics.kv)
        wanted = [(precision, kv) for precision in precisions for kv in kinds if (precision, kv) != running]
        for index, (precision, kv) in enumerate(wanted):
            store = empty if precision is Precision.BF16 else convert(empty, precision)
            steps = Steps(self.pool, caches[kv])
            for place, shape in enumerate(EVERY_SHAPE):
                progress((index + place / len(EVERY_SHAPE)) / len(wanted))
                steps.compile(shape, store)

    def begin(self, store: Store, kv: KvPrecision) -> None:
        assert isinstance(store, GpuStore)
        form = self._form_with(kv)
        with _interpreter_shared():
            while self._take_apart():
                pass
        if form is None:
            spare_memory()
            with beside_steps():
                form = _Form(self.pool, self.gpu_kv.like(entries_of(kv)))
        steps = form.steps_of(store)
        with _interpreter_shared():
            for shape in first_shapes(tuple(self.steps_of(self._store).recent)):
                steps.capture(shape, store)
        if form is not self._form:
            self._next = form

    def ready_for(self, store: Store, kv: KvPrecision) -> bool:
        assert isinstance(store, GpuStore)
        form = self._form_with(kv)
        return form is not None and len(form.steps_of(store)) > 0

    def room_for(self, kv: KvPrecision) -> int:
        return 0 if self._form_with(kv) is not None else self.gpu_kv.nbytes_as(entries_of(kv))

    def warm_next(self, store: Store) -> bool:
        assert isinstance(store, GpuStore)
        if self._take_apart():
            return True
        steps = self.steps_of(store)
        shape = steps.missing()
        if shape is not None:
            with _interpreter_shared():
                steps.capture(shape, store)
        return steps.missing() is not None

    def run(self, batch: ScheduledBatch, seeds: SequenceOf[int]) -> list[tuple[Sequence, SampledToken]]:
        requests = [
            SampleRequest(row.sequence.sampling, row.sequence.tokens[row.sequence.num_prompt_tokens :], seed)
            if row.samples
            else None
            for row, seed in zip(batch.rows, seeds, strict=True)
        ]
        self._keep_lines({row.sequence for row in batch.rows})
        pieces, missing = self._find(batch)
        pieces += [self._launch(batch, part, requests) for part in _parts(batch, missing)]
        self._look_ahead(batch, requests, pieces)
        answers = self._collect(pieces, requests, len(batch.rows))
        return [(row.sequence, token) for row, token in zip(batch.rows, answers, strict=True) if token is not None]

    def logits(self, runs: SequenceOf[TokenRun]) -> Tensor:
        self._ahead = None
        self._keep_lines(set())
        given = [self._run(object(), run.tokens, run.start, run.block_table, samples=run.samples) for run in runs]
        return self._start(given).logits.clone()

    def logits_apart(
        self,
        tokens: SequenceOf[int],
        store: object,
        hook: ActivationHook | None,
        *,
        every_token: bool,
        kv_precision: KvPrecision = KvPrecision.MODEL,
    ) -> Tensor:
        assert isinstance(store, GpuStore)
        with beside_steps():
            return self._apart(tokens, store, hook, entries_of(kv_precision), every_token=every_token).cpu()

    @property
    def _store(self) -> GpuStore:
        store = self._numerics.store
        assert isinstance(store, GpuStore)
        return store

    def steps_of(self, store: GpuStore) -> Steps:
        return self._form.steps_of(store)

    def _take_apart(self) -> bool:
        """Lets go of one graph that is of no use any more; False where there is none."""
        try:
            self._spent.pop()
        except IndexError:
            return False
        return True

    def _form_with(self, kv: KvPrecision) -> _Form | None:
        """Of what is in memory."""
        forms = (self._form, self._next)
        return next((form for form in forms if form is not None and form.kv.dtype == entries_of(kv)), None)

    def _start(self, runs: SequenceOf[Run]) -> Launched:
        return self.steps_of(self._store).launch(runs, self._store, prunes=self._numerics.pruner is not None)

    def _cut(self, pruner: Pruner | None) -> None:
        if pruner is None:
            self.pool.cuts.taus.zero_()
        else:
            self.pool.cuts.taus[:-1].copy_(pruner.taus.flatten())

    def _find(self, batch: ScheduledBatch) -> tuple[list[_Piece], list[int]]:
        """What of a batch is computed already, and which of its rows are not."""
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            return [], list(range(len(batch.rows)))
        hits: dict[int, int] = {}
        missing: list[int] = []
        for index, row in enumerate(batch.rows):
            place = ahead.places.get(row.sequence)
            if place is not None and place[0] == row.start and row.count == 1 and row.samples:
                hits[place[1]] = index
            else:
                missing.append(index)
        self.rows_ahead += len(ahead.places)
        self.rows_hit += len(hits)
        if not hits:
            return [], missing
        rows = tuple(hits.get(row, -1) for row in range(ahead.launched.count))
        return [_Piece(ahead.launched, rows, {})], missing

    def _launch(
        self, batch: ScheduledBatch, part: SequenceOf[int], requests: SequenceOf[SampleRequest | None]
    ) -> _Piece:
        runs = []
        for index in part:
            row = batch.rows[index]
            tokens = row.sequence.tokens[row.start : row.start + row.count]
            runs.append(self._run(row.sequence, tokens, row.start, row.sequence.block_table, samples=row.samples))
        launched = self._start(runs)
        sampled = tuple(index for index in part if batch.rows[index].samples)
        # Copied now, since the next step of this size writes over them.
        scores = {
            index: launched.logits[place : place + 1].to("cpu", copy=True)
            for place, index in enumerate(sampled)
            if not _takes_likeliest(requests[index])
        }
        return _Piece(launched, sampled, scores)

    def _look_ahead(
        self, batch: ScheduledBatch, requests: SequenceOf[SampleRequest | None], pieces: SequenceOf[_Piece]
    ) -> None:
        if not self.looks_ahead:
            return
        runs: list[Run] = []
        places: dict[Sequence, tuple[int, int]] = {}
        size = self.gpu_kv.block_size
        for piece in pieces:
            for place, index in enumerate(piece.rows):
                if index < 0 or not _takes_likeliest(requests[index]):
                    continue
                row = batch.rows[index]
                sequence, position = row.sequence, row.start + row.count
                ends = sequence.num_generated + 1 >= sequence.sampling.max_tokens or position + 1 >= self._max_model_len
                if ends or position // size >= len(sequence.block_table):
                    continue
                # Its table may have grown since the row was launched: what was computed ahead is not launched again.
                self.pool.tables.write(self._lines[sequence], sequence.block_table)
                places[sequence] = (position, len(runs))
                runs.append(
                    Run((0,), position, self._lines[sequence], samples=True, source=piece.launched.first + place)
                )
        if runs:
            self._ahead = _Ahead(self._start(runs), places)

    def _collect(
        self, pieces: SequenceOf[_Piece], requests: SequenceOf[SampleRequest | None], rows: int
    ) -> list[SampledToken | None]:
        answers: list[SampledToken | None] = [None] * rows
        for piece in pieces:
            tokens, best, kept = piece.launched.wait(self.pool.cuts.kept.shape[0])
            self._feed(kept, sum(index >= 0 for index in piece.rows))
            for place, index in enumerate(piece.rows):
                if index < 0:
                    continue
                request = requests[index]
                assert request is not None
                if index in piece.scores:
                    answers[index] = sample(piece.scores[index], [request])[0]
                else:
                    answers[index] = pick(tokens[place], best[place])
        return answers

    def _feed(self, kept: Tensor, rows: int) -> None:
        if self._numerics.pruner is not None and rows:
            self._numerics.pruner.feed(kept[:-1].view(-1, len(SITES)).long(), self._widths, rows)

    @property
    def _widths(self) -> tuple[int, int, int, int]:
        spec = self.spec
        return (spec.hidden_size, spec.num_heads * spec.head_dim, spec.hidden_size, spec.intermediate_size)

    def _run(
        self, key: Hashable, tokens: SequenceOf[int], start: int, blocks: SequenceOf[int], *, samples: bool
    ) -> Run:
        line = self._lines.get(key)
        if line is None:
            self._lines[key] = line = self._free.pop()
        self.pool.tables.write(line, list(blocks))
        return Run(tokens, start, line, samples)

    def _keep_lines(self, wanted: set[Sequence]) -> None:
        for key in [key for key in self._lines if key not in wanted]:
            self._free.append(self._lines.pop(key))

    def _apart(
        self,
        tokens: SequenceOf[int],
        store: GpuStore,
        hook: ActivationHook | None,
        entries: torch.dtype,
        *,
        every_token: bool,
    ) -> Tensor:
        """Launched kernel by kernel, with pages and buffers of its own: it must not touch those of the engine's steps."""
        spec, count, size = self.spec, len(tokens), self.gpu_kv.block_size
        kv = GpuKvCache(spec, entries, num_blocks=-(-count // size), block_size=size)
        cuts, work = Cuts.none(spec), Workspace(spec)
        watch = None
        if isinstance(hook, Pruner):
            cuts.taus[:-1].copy_(hook.taus.flatten())
        elif hook is not None:
            hook.begin(count)

            def watch(layer: int, site: Site, x: Tensor) -> None:
                hook(layer, site, x[:count].cpu())

        most = queries_per_tile(spec.num_heads // spec.num_key_heads, spec.head_dim)
        firsts = range(0, count, most)
        tiles = torch.tensor([(at, min(most, count - at), at, 0) for at in firsts], dtype=torch.int32, device=here())
        numbers = torch.arange(max(count, kv.num_blocks), dtype=torch.int32, device=here())
        step = StepTensors(
            tokens=torch.tensor(tokens, dtype=torch.int32, device=here()),
            sources=torch.full((count,), -1, dtype=torch.int32, device=here()),
            positions=numbers[:count],
            runs=torch.zeros(count, dtype=torch.int32, device=here()),
            real=torch.tensor([count], dtype=torch.int32, device=here()),
            tables=numbers[: kv.num_blocks].view(1, -1),
            tiles=tiles.t().contiguous(),
            sampled=None if every_token else numbers[count - 1 : count],
        )
        last = torch.zeros(1, dtype=torch.int32, device=here())
        logits = forward(spec, step, last, store, kv, cuts, work, watch)
        if isinstance(hook, Pruner):
            hook.feed(cuts.kept[:-1].view(-1, len(SITES)).long().cpu(), self._widths, count)
        return logits


@contextlib.contextmanager
def _interpreter_shared() -> Iterator[None]:
    """Capturing is Python for the most part. The thread that steps shall not wait 5 ms whenever it asks for the interpreter."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(min(before, _SWITCH_S))
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def _takes_likeliest(request: SampleRequest | None) -> bool:
    return request is not None and request.takes_likeliest


def _parts(batch: ScheduledBatch, rows: SequenceOf[int]) -> list[list[int]]:
    """Cuts what is left of a batch into steps that fit; a prompt's chunk alone fits always."""
    parts: list[list[int]] = []
    tokens = PREFILL_ROWS[-1]
    for index in rows:
        count = batch.rows[index].count
        if not parts or tokens + count > PREFILL_ROWS[-1] or len(parts[-1]) == MAX_RUNS:
            parts.append([])
            tokens = 0
        parts[-1].append(index)
        tokens += count
    return parts
