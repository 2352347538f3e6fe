"""Random changes of settings while the engine is under load: what they cost, and whether an answer suffers."""

import contextlib
import random
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch

from inference_node.bench.gpu.serving import answers, make_engine
from inference_node.contract.settings import KvPrecision, Precision
from inference_node.engine.answer import Answer
from inference_node.engine.engine import Change, Engine
from inference_node.model.gpu.runner import GpuRunner
from inference_node.model.gpu.store import GpuStore, convert
from inference_node.model.runner import Numerics
from inference_node.pruning.prune import Pruner
from inference_node.scheduling.sequence import FinishReason

_ROWS, _PROMPT, _OUTPUT = 32, 200, 160
_CHANGES, _STEPS_BETWEEN = 100, 12


class _Load:
    """Keeps _ROWS answers running, notes how long every step took, and checks what ended."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.running: dict[str, Answer] = {}
        self.finished = self.wrong = 0
        self.gaps: list[float] = []
        self.worst: tuple[float, str] = (0.0, "")
        self._seed = 10_000
        self._before: float | None = None
        self._tokens: dict[str, int] = {}

    def step(self) -> None:
        while len(self.running) < _ROWS:
            self._seed += 1
            answer = answers(self.engine, 1, _PROMPT, _OUTPUT - self._seed % 40, seed=self._seed)[0]
            self.running[answer.request.request_id] = answer
        before = self.captures
        for delta in self.engine.step():
            self._tokens[delta.request_id] = self._tokens.get(delta.request_id, 0) + len(delta.token_ids)
            if delta.finish_reason is not None:
                answer = self.running.pop(delta.request_id)
                wanted = answer.request.sampling.max_tokens
                told, kept = self._tokens.pop(delta.request_id), answer.sequence.num_generated
                self.finished += 1
                self.wrong += not (delta.finish_reason is FinishReason.LENGTH and told == kept == wanted)
        now = time.perf_counter()
        if self._before is not None:
            self.gaps.append(now - self._before)
            if self.gaps[-1] > self.worst[0]:
                self.worst = self.gaps[-1], self._told(before)
        self._before = now

    @property
    def captures(self) -> int:
        runner = self.engine.runner
        assert isinstance(runner, GpuRunner)
        return runner.captures

    def _told(self, before: int) -> str:
        settings = self.engine.settings
        return (
            f"{settings.precision}, pruned {settings.pruning_threshold}, batch {settings.max_batch_size}, "
            f"budget {settings.max_batched_tokens}, captured {self.captures - before}"
        )

    def take_gaps(self, *, goes_on: bool = False) -> list[float]:
        """goes_on: what happens from now until the next step counts as its gap."""
        gaps, self.gaps = self.gaps, []
        if not goes_on:
            self._before = None
        return gaps


def run(report: Any, runner: GpuRunner, stores: dict[Precision, GpuStore], taus: Mapping[float, torch.Tensor]) -> None:
    exact = stores[Precision.BF16]
    runner.warm(exact)
    began = time.perf_counter()
    runner.compile((Precision.FP8, Precision.INT8, Precision.INT4), lambda share: None)
    report.add(what="compiled at the start", seconds=round(time.perf_counter() - began, 2))
    load = _Load(make_engine(runner, exact, batch=64))
    for _ in range(200):
        load.step()
    load.take_gaps()
    for _ in range(300):
        load.step()
    steady = load.take_gaps()
    p99 = _p99(steady)
    report.add(what="steady", rows=_ROWS, itl_ms=_ms(statistics.median(steady)), itl_p99_ms=_ms(p99))
    for precision in (Precision.FP8, Precision.INT8):
        for _ in range(3):
            stores.pop(precision, None)
            _swapped(report, load, runner, stores, precision, p99)
    for kv in (KvPrecision.FP8, KvPrecision.MODEL) * 3:
        _other_cache(report, load, runner, exact, kv, p99)
    stores[Precision.INT4] = stores[Precision.INT8].in_precision(Precision.INT4)
    runner.warm(stores[Precision.INT4])
    _random_changes(report, load, runner, stores, taus, p99)


def _random_changes(
    report: Any,
    load: _Load,
    runner: GpuRunner,
    stores: Mapping[Precision, GpuStore],
    taus: Mapping[float, torch.Tensor],
    p99: float,
) -> None:
    draw, engine = random.Random(3), load.engine
    load.take_gaps()
    load.worst = 0.0, ""
    gaps: list[float] = []
    prepared = 0
    took: list[float] = []
    settings = engine.settings
    with _warming(runner, stores, engine):
        for _ in range(_CHANGES):
            knob = draw.choice(
                ("precision", "kv_precision", "pruning_threshold", "max_batch_size", "max_batched_tokens")
            )
            value: Any = {
                "precision": draw.choice([p.value for p in stores]),
                "kv_precision": draw.choice([KvPrecision.MODEL.value, KvPrecision.FP8.value]),
                "pruning_threshold": draw.choice([0.0, *taus]),
                "max_batch_size": draw.choice((24, 32, 64)),
                "max_batched_tokens": draw.choice((256, 512, 2048)),
            }[knob]
            settings = settings.replace(**{knob: value})
            pruner = Pruner(taus[settings.pruning_threshold]) if settings.pruning_threshold else None
            store, kv = stores[settings.precision], settings.kv_precision
            if not runner.ready_for(store, kv):
                prepared += 1
                gaps += load.take_gaps()
                gaps += _beside(load, partial(runner.begin, store, kv))[1]
            began = time.perf_counter()
            engine.apply(Change(settings, Numerics(store, pruner, kv), None))
            took.append(time.perf_counter() - began)
            for _ in range(_STEPS_BETWEEN):
                load.step()
    gaps += load.take_gaps()
    while engine.has_work:
        before = load.finished
        for delta in engine.step():
            load.finished += delta.finish_reason is not None
        assert load.finished >= before
    report.add(
        what="random changes", changes=_CHANGES, prepared=prepared,
        answers=load.finished, wrong=load.wrong, failed_steps=engine.failed_steps,
        apply_ms=_ms(statistics.median(took)), worst_apply_ms=_ms(max(took)), itl_p99_ms=_ms(_p99(gaps)),
        over_steady_p99=round(_p99(gaps) / p99, 2), worst_ms=_ms(max(gaps)), worst=load.worst[1],
        over_10x=sum(gap > 10 * statistics.median(gaps) for gap in gaps),
    )  # fmt: skip


@contextlib.contextmanager
def _warming(runner: GpuRunner, stores: Mapping[Precision, GpuStore], engine: Engine) -> Iterator[None]:
    """Captures what steps miss beside them, what runs first, as `Reconfigurer.warm_next` does."""
    done = threading.Event()

    def one() -> bool:
        order = sorted(stores.items(), key=lambda item: item[0] is not engine.settings.precision)
        return any(runner.warm_next(store) for _, store in order)

    def work() -> None:
        while not done.wait(0.0 if one() else 0.01):
            pass

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _swapped(
    report: Any,
    load: _Load,
    runner: GpuRunner,
    stores: dict[Precision, GpuStore],
    precision: Precision,
    p99: float,
) -> None:
    """A format that is not resident: until its weights are in force, and until steps of every size are captured with them."""
    exact, settings = stores[Precision.BF16], load.engine.settings

    def prepare() -> None:
        began = time.perf_counter()
        store = convert(exact, precision)
        report.add(what="converted", format=precision.value, seconds=round(time.perf_counter() - began, 3))
        runner.begin(store, settings.kv_precision)
        stores[precision] = store

    def complete() -> None:
        while runner.warm_next(stores[precision]):
            pass

    until_ready, gaps = _beside(load, prepare)
    load.engine.apply(Change(settings.replace(precision=precision), Numerics(stores[precision], None), None))
    until_warm, later = _beside(load, complete)
    load.take_gaps()
    for _ in range(300):
        load.step()
    settled = _p99(load.take_gaps())
    load.engine.apply(Change(settings, Numerics(exact, None), None))
    for what, seconds, seen, steady in (
        ("prepared", until_ready, gaps, p99),
        ("completed", until_warm, later, settled),
    ):
        report.add(
            what=f"{what} beside load", format=precision.value, seconds=round(seconds, 3),
            itl_ms=_ms(statistics.median(seen)), itl_p99_ms=_ms(_p99(seen)), worst_ms=_ms(max(seen)),
            over_steady_p99=round(_p99(seen) / steady, 2), captures=len(runner.steps_of(stores[precision])),
        )  # fmt: skip


def _other_cache(report: Any, load: _Load, runner: GpuRunner, store: GpuStore, kv: KvPrecision, p99: float) -> None:
    """Keys and values in another format: until steps over them are ready, and what their conversion holds up."""
    settings = load.engine.settings.replace(kv_precision=kv)
    until_ready, gaps = _beside(load, partial(runner.begin, store, kv))
    began = time.perf_counter()
    load.engine.apply(Change(settings, Numerics(store, None, kv), None))
    switched = time.perf_counter() - began
    before = time.perf_counter()
    load.step()
    report.add(
        what="keys and values beside load", format=kv.value, seconds=round(until_ready, 3), switch_ms=_ms(switched),
        next_step_ms=_ms(time.perf_counter() - before), itl_p99_ms=_ms(_p99(gaps)), worst_ms=_ms(max(gaps)),
        over_steady_p99=round(_p99(gaps) / p99, 2), memory_gb=round(torch.cuda.memory_allocated() / 1e9, 1),
        reserved_gb=round(torch.cuda.memory_reserved() / 1e9, 1),
    )  # fmt: skip
    while runner.warm_next(store):
        load.step()


def _beside(load: _Load, work: Callable[[], None]) -> tuple[float, list[float]]:
    """Seconds of work in a thread of its own, and times between tokens meanwhile."""
    load.take_gaps()
    took: list[float] = []

    def timed() -> None:
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)

    thread = threading.Thread(target=timed)
    thread.start()
    while thread.is_alive():
        load.step()
    thread.join()
    if not took:
        raise RuntimeError("the preparation failed; see above")
    return took[0], load.take_gaps(goes_on=True)


def _p99(values: list[float]) -> float:
    return sorted(values)[int(0.99 * (len(values) - 1))]


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 3)
