"""A small queueing simulation of a pool: nodes that step, from a table of step times. It shares no formula with the product.

Arrivals are open-loop (they do not wait for answers) and spread in turn over the nodes; each node runs first come, first served
with chunked prefill under its token budget, as the engine does.
"""

import math
import random
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial

from controlplane.telemetry.observation import Observation, Quality
from inference_node.contract.settings import EngineSettings, Precision
from inference_node.contract.step_profile import StepSample

START = datetime(2026, 1, 1, tzinfo=UTC)
# (decode rows, seconds): as measured on two CPU cores, bent at both ends, which a straight line only approximates.
STEP_TABLE = ((0, 0.030), (1, 0.036), (2, 0.038), (4, 0.044), (8, 0.055), (16, 0.081), (32, 0.142), (64, 0.270))
PREFILL_S = 0.0009


def step_seconds(rows: float, prefill_tokens: float) -> float:
    at = bisect_left([r for r, _ in STEP_TABLE], rows)
    (r0, s0), (r1, s1) = STEP_TABLE[max(0, at - 1)], STEP_TABLE[min(at, len(STEP_TABLE) - 1)]
    decode = s1 if r1 == r0 else s0 + (s1 - s0) * (rows - r0) / (r1 - r0)
    return decode + PREFILL_S * prefill_tokens


def probe_cells(slower: float = 0.8) -> list[StepSample]:
    """What a node's probe at start would have measured: `slower` below 1, since it had the machine to itself."""
    cells = [(1, 0), (4, 0), (16, 0), (32, 0), (1, 64), (4, 128)]
    return [
        StepSample(
            precision=Precision.BF16,
            decode_rows=rows,
            prefill_tokens=tokens,
            step_s=slower * step_seconds(rows, tokens),
            samples=5,
        )
        for rows, tokens in cells
    ]


@dataclass
class _Request:
    arrived_s: float
    prompt_left: int
    prompt: int
    answer: int
    answer_left: int
    last_token_s: float | None = None


@dataclass
class _Node:
    clock_s: float = 0.0
    waiting: deque[_Request] = field(default_factory=deque)
    running: list[_Request] = field(default_factory=list)


@dataclass
class _Tally:
    offered: int = 0
    rejected: int = 0
    ttft: list[float] = field(default_factory=list)
    itl: list[float] = field(default_factory=list)
    finished: list[_Request] = field(default_factory=list)
    steps: list[tuple[float, int, int]] = field(default_factory=list)


class SimulatedPool:
    """`rate(t)` is the offered load in requests per second at `t` seconds; lengths are geometric around the given means.

    step_s: seconds of a step by its decode rows, prefill tokens and the settings in force; else the table's.
    """

    def __init__(
        self,
        rate: Callable[[float], float],
        settings: EngineSettings,
        *,
        nodes: int = 2,
        seed: int = 0,
        prompt_tokens: int = 40,
        answer_tokens: int = 48,
        step_s: Callable[..., float] | None = None,
    ) -> None:
        self.settings = settings
        self._step_s = step_s
        self.now_s = 0.0
        self._rate = rate
        self._random = random.Random(seed)
        self._nodes = [_Node() for _ in range(nodes)]
        self._turn = 0
        self._means = prompt_tokens, answer_tokens
        self._next_s = self._gap(0.0)

    def window(self, length_s: float) -> Observation:
        """Runs for `length_s` seconds and tells what Prometheus would have shown of them."""
        end_s, tally = self.now_s + length_s, _Tally()
        while self._next_s <= end_s:
            self._run_until(self._next_s, tally)
            self._arrive(tally)
        self._run_until(end_s, tally)
        self.now_s = end_s
        return self._observe(length_s, tally)

    @property
    def at(self) -> datetime:
        return START + timedelta(seconds=self.now_s)

    def _gap(self, since_s: float) -> float:
        """Next arrival of a Poisson process whose rate changes, by thinning."""
        fastest, at = 50.0, since_s
        while True:
            at += self._random.expovariate(fastest)
            if self._random.random() * fastest < self._rate(at):
                return at

    def _length(self, mean: int) -> int:
        return max(2, min(4 * mean, round(self._random.gammavariate(4, mean / 4))))

    def _arrive(self, tally: _Tally) -> None:
        node = self._nodes[self._turn % len(self._nodes)]
        self._turn += 1
        tally.offered += 1
        if len(node.waiting) >= self.settings.max_queue:
            tally.rejected += 1
        else:
            prompt, answer = self._length(self._means[0]), self._length(self._means[1])
            node.waiting.append(_Request(self._next_s, prompt, prompt, answer, answer))
        self._next_s = self._gap(self._next_s)

    def _run_until(self, end_s: float, tally: _Tally) -> None:
        for node in self._nodes:
            while node.clock_s < end_s:
                if not node.waiting and not node.running:
                    node.clock_s = end_s
                else:
                    self._step(node, tally)

    def _step(self, node: _Node, tally: _Tally) -> None:
        while node.waiting and len(node.running) < self.settings.max_batch_size:
            node.running.append(node.waiting.popleft())
        decoding = [r for r in node.running if r.prompt_left == 0]
        budget = self.settings.max_batched_tokens - len(decoding)
        prefilled = 0
        for request in node.running:
            if request.prompt_left and budget:
                chunk = min(budget, request.prompt_left)
                request.prompt_left -= chunk
                budget -= chunk
                prefilled += chunk
        plain = step_seconds if self._step_s is None else partial(self._step_s, settings=self.settings)
        seconds = plain(len(decoding), prefilled) * self._random.uniform(0.95, 1.1)
        node.clock_s += seconds
        tally.steps.append((seconds, len(decoding), prefilled))
        for request in list(node.running):
            if request.prompt_left:
                continue
            if request.last_token_s is None:
                tally.ttft.append(node.clock_s - request.arrived_s)
            else:
                tally.itl.append(node.clock_s - request.last_token_s)
            request.last_token_s = node.clock_s
            request.answer_left -= 1
            if request.answer_left == 0:
                node.running.remove(request)
                tally.finished.append(request)

    def _observe(self, length_s: float, tally: _Tally) -> Observation:
        steps, done = len(tally.steps), len(tally.finished)
        return Observation(
            window_end=self.at,
            window_s=length_s,
            quality=Quality.OK,
            offered_rps=tally.offered / length_s,
            prompt_tokens_per_s=sum(p for _, _, p in tally.steps) / length_s,
            generation_tokens_per_s=(len(tally.itl) + len(tally.ttft)) / length_s,
            requests=float(done),
            errors=0.0,
            rejected=float(tally.rejected),
            running=float(sum(len(n.running) for n in self._nodes)),
            waiting=float(sum(len(n.waiting) for n in self._nodes)),
            ttft_p50_s=_quantile(tally.ttft, 0.5),
            ttft_p95_s=_quantile(tally.ttft, 0.95),
            itl_p50_s=_quantile(tally.itl, 0.5),
            itl_p95_s=_quantile(tally.itl, 0.95),
            step_mean_s=sum(s for s, _, _ in tally.steps) / steps if steps else None,
            decode_rows_mean=sum(r for _, r, _ in tally.steps) / steps if steps else None,
            prefill_tokens_mean=sum(p for _, _, p in tally.steps) / steps if steps else None,
            prompt_tokens_mean=sum(r.prompt for r in tally.finished) / done if done else None,
            generation_tokens_mean=sum(r.answer for r in tally.finished) / done if done else None,
            nodes_up=len(self._nodes),
        )


def _quantile(values: list[float], q: float) -> float | None:
    return sorted(values)[min(len(values) - 1, math.ceil(q * len(values)) - 1)] if values else None
