"""`trimtab bench reconfigure`: random live changes under steady load, and whether any answer suffered. Asserts nothing.

Three phases under the same streams: steady, changing, and settled again under the first settings. Every token carries its
number (vLLM's `continuous_usage_stats`), so a lost, doubled or missing one is seen where it happens.
"""

import asyncio
import itertools
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from inference_node.bench.admin import AdminClient
from inference_node.bench.changes import Change, ChangeSource, Outcome, values_of
from inference_node.bench.figures import machine, quantile, summary_ms, versions
from inference_node.bench.load import Target
from inference_node.bench.loop import run_on_fast_loop
from inference_node.bench.occupancy import take_reading
from inference_node.bench.prompts import make_prompts
from inference_node.bench.truth import StreamTruth
from inference_node.bench.wire import Address, Recording, record
from inference_node.errors import Invalid

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class ReconfigureOptions:
    """The load and the changes. `precisions` limits what is changed to; None: all that the node has but fp32."""

    url: str
    token: str
    model: str
    changes: int = 100
    streams: int = 8
    prompt_tokens: int = 64
    output_tokens: int = 64
    pause_s: float = 0.25
    steady_s: float = 10.0
    precisions: tuple[str, ...] | None = None
    seed: int = 0
    timeout_s: float = 300.0
    server_pid: int | None = None

    def __post_init__(self) -> None:
        for name in ("changes", "streams", "prompt_tokens", "output_tokens", "steady_s", "timeout_s"):
            if getattr(self, name) <= 0:
                raise Invalid(f"{name} must be above 0, got {getattr(self, name)}")
        if self.pause_s < 0:
            raise Invalid(f"pause_s must be at least 0, got {self.pause_s}")


def run(options: ReconfigureOptions, progress: Progress = lambda line: None) -> dict[str, Any]:
    """Measure; the whole report as plain values. Raises NodeUnreachable, Invalid."""
    return run_on_fast_loop(_run(options, progress))


async def _run(options: ReconfigureOptions, progress: Progress) -> dict[str, Any]:
    async with AdminClient(options.url, options.token) as admin:
        shown = await admin.settings()
        first: dict[str, Any] = shown["settings"]
        values = values_of(shown["capabilities"], options.precisions)
        before, streams = machine(), _Streams(options)
        reading = take_reading(options.server_pid)
        async with asyncio.TaskGroup() as group:
            streams.start(group)
            try:
                progress(f"{options.streams} streams, steady for {options.steady_s:g} s")
                await asyncio.sleep(options.steady_s)
                started_s = time.perf_counter()
                outcomes = await _change(admin, options, ChangeSource(values, options.seed), first, progress)
                ended_s = time.perf_counter()
                back = await _return(admin, first, (await admin.settings())["settings"])
                progress(f"first settings again, steady for {options.steady_s:g} s")
                await asyncio.sleep(options.steady_s)
            finally:
                streams.stop()
        occupancy = reading.until(take_reading(options.server_pid))
    truths = streams.truths()
    return {
        "benchmark": "reconfigure",
        "url": options.url,
        "model": options.model,
        "hardware": before,
        "versions": versions(),
        "load": {name: value for name, value in asdict(options).items() if name not in ("token", "server_pid")},
        "first_settings": first,
        "values": {knob: list(choices) for knob, choices in values.items()},
        # Of somebody else's node it is not known what it used.
        "occupancy": asdict(occupancy) if options.server_pid is not None else None,
        "disturbed": occupancy.is_disturbed if options.server_pid is not None else None,
        "returned": [_described(outcome) for outcome in back],
        **summarize(truths, outcomes, started_s, ended_s),
    }


async def _change(
    admin: AdminClient,
    options: ReconfigureOptions,
    source: ChangeSource,
    settings: Mapping[str, Any],
    progress: Progress,
) -> list[Outcome]:
    pauses, outcomes, now = random.Random(options.seed + 1), list[Outcome](), dict(settings)
    for number in range(1, options.changes + 1):
        change = source.draw(now)
        outcome = await admin.change(change)
        outcomes.append(outcome)
        if outcome.refusal is None:
            now[change.knob] = change.value
        said = f"refused: {outcome.refusal}" if outcome.refusal else f"{outcome.steps} steps, {outcome.took_ms:.1f} ms"
        progress(f"{number}/{options.changes} {change.kind} = {change.value}: {said}")
        # At any place of a step, and of an answer.
        await asyncio.sleep(pauses.uniform(0, 2 * options.pause_s))
    return outcomes


async def _return(admin: AdminClient, first: Mapping[str, Any], last: Mapping[str, Any]) -> list[Outcome]:
    changes = [Change(knob, knob, value) for knob, value in first.items() if last[knob] != value]
    return [await admin.change(change) for change in changes]


class _Streams:
    """Closed loops that run until told to stop; then each ends the answer that it is reading."""

    def __init__(self, options: ReconfigureOptions) -> None:
        self._options = options
        extra = {
            "ignore_eos": True,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        }
        self._target = Target(Address.of(options.url), options.model, options.output_tokens, extra, options.timeout_s)
        self._recordings: list[Recording] = []
        self._running = True
        self._numbers = itertools.count()

    def start(self, group: asyncio.TaskGroup) -> None:
        for _ in range(self._options.streams):
            group.create_task(self._loop())

    def stop(self) -> None:
        self._running = False

    def truths(self) -> list[StreamTruth]:
        return [StreamTruth.of(recording, self._options.output_tokens) for recording in self._recordings]

    async def _loop(self) -> None:
        while self._running:
            seed = f"{self._options.seed}/{next(self._numbers)}"
            (prompt,) = make_prompts(1, self._options.prompt_tokens, 0, seed)
            recording = await record(self._target.address, self._target.request(prompt), self._target.timeout_s)
            self._recordings.append(recording)
            if recording.failure is not None:
                await asyncio.sleep(0.1)  # a node that is gone shall not be asked a million times


def summarize(
    truths: Sequence[StreamTruth], outcomes: Sequence[Outcome], started_s: float, ended_s: float
) -> dict[str, Any]:
    """The figures behind the raw facts. Changing is from `started_s` to `ended_s`, all else is steady."""
    gaps = [gap for truth in truths if not truth.failed for gap in truth.gaps]
    changing = [seconds for at, seconds in gaps if started_s <= at <= ended_s]
    steady = [seconds for at, seconds in gaps if not started_s <= at <= ended_s]
    applied = [outcome for outcome in outcomes if outcome.refusal is None]
    return {
        "changes": len(outcomes),
        "applied": len(applied),
        "refused": len(outcomes) - len(applied),
        "refusals": sorted({f"{o.change.kind}: {o.refusal}" for o in outcomes if o.refusal is not None})[:5],
        "answers": len(truths),
        "answers_that_saw_a_change_of_numerics": sum(len({mark for _, _, mark in t.tokens}) > 1 for t in truths),
        "failed_requests": sum(truth.failed for truth in truths),
        "failures": sorted({str(truth.error) for truth in truths if truth.failed})[:3],
        "truncated_requests": sum(truth.truncated for truth in truths),
        "duplicated_tokens": sum(truth.duplicated for truth in truths),
        "lost_tokens": sum(truth.lost for truth in truths),
        "disordered_requests": sum(truth.disordered for truth in truths),
        "itl_steady_ms": summary_ms(steady),
        "itl_changing_ms": summary_ms(changing),
        "itl_p99_ratio": _p99_ratio(changing, steady),
        "kinds": [_kind(kind, applied) for kind in sorted({outcome.change.kind for outcome in applied})],
        "log": [_described(outcome) for outcome in outcomes],
    }


def _kind(kind: str, applied: Sequence[Outcome]) -> dict[str, Any]:
    mine = [outcome for outcome in applied if outcome.change.kind == kind]
    steps = sorted(float(outcome.steps) for outcome in mine if outcome.steps is not None)
    return {
        "kind": kind,
        "applied": len(mine),
        "steps": {"p50": quantile(steps, 0.5), "min": steps[0], "max": steps[-1]} if steps else None,
        "apply_ms": summary_ms([outcome.took_ms / 1000 for outcome in mine])
        | {"max": round(max(outcome.took_ms for outcome in mine), 3)},
    }


def _p99_ratio(changing: Sequence[float], steady: Sequence[float]) -> float | None:
    if not changing or not steady:
        return None
    return round(quantile(sorted(changing), 0.99) / quantile(sorted(steady), 0.99), 3)


def _described(outcome: Outcome) -> dict[str, Any]:
    return {
        "kind": outcome.change.kind,
        "value": outcome.change.value,
        "steps": outcome.steps,
        "ms": round(outcome.took_ms, 3),
        "refusal": outcome.refusal,
    }
