"""One simulated node: continuous batching, iteration by iteration, with chunked prefill, a KV limit and a bounded queue.

Steps without prefill that are all alike until the next arrival or the next finished answer are taken at once, so that the cost of
a replay is in proportion to its requests, not to its tokens. Simpler than the engine in one respect: KV is reserved
for the whole answer at admission, where the engine admits more and preempts.
"""

import heapq
import math
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from controlplane.bench.replay.step_table import Levels
from inference_node.contract.settings import EngineSettings

_DRIFT_S = 60.0


@dataclass(slots=True, eq=False)
class Request:
    """Seconds on the simulated clock. `first_s` and `end_s` are None until then; `lost` by refusal or a node's failure."""

    arrived_s: float
    prompt: int
    answer: int
    prompt_left: int = 0
    first_s: float | None = None
    end_s: float | None = None
    lost: bool = False

    def meets(self, ttft_s: float, itl_s: float) -> bool:
        """Whether it was served within both objectives; the gap between tokens counts as this answer's mean."""
        if self.lost or self.first_s is None or self.end_s is None or self.first_s - self.arrived_s > ttft_s:
            return False
        return self.answer < 2 or (self.end_s - self.first_s) / (self.answer - 1) <= itl_s


@dataclass(slots=True)
class Tally:
    """What happened since it was last emptied. `steps`: (seconds of one step, decode rows, prefill tokens, how many)."""

    steps: list[tuple[float, int, int, int]] = field(default_factory=list)
    first_tokens: list[float] = field(default_factory=list)
    finished: list[Request] = field(default_factory=list)
    # Answer tokens, and each times the share of quality that it lost.
    tokens: float = 0.0
    lost_quality: float = 0.0


class SimulatedNode:
    """`run(until)` steps to at least that second: a step under way is not cut."""

    def __init__(self, levels: Levels, kv_tokens: int, rng: np.random.Generator) -> None:
        self.levels = levels
        self.table = levels.exact
        self.interference = 1.0
        self.clock_s = 0.0
        self.down_until_s = 0.0
        self.waiting: deque[Request] = deque()
        self.tally = Tally()
        self._kv_tokens = kv_tokens
        self._rng = rng
        self._prefilling: deque[Request] = deque()
        # (index of the decode step it ends with, tie-breaker, request)
        self._decoding: list[tuple[int, int, Request]] = []
        self._decoded = self._admitted = self._reserved = 0
        self._drift, self._drift_until_s = 1.0, 0.0

    @property
    def running(self) -> int:
        return len(self._prefilling) + len(self._decoding)

    @property
    def load(self) -> int:
        return self.running + len(self.waiting)

    def room(self, settings: EngineSettings) -> int:
        """Rows that are free."""
        return max(0, settings.max_batch_size - self.running)

    @property
    def kv_usage(self) -> float:
        return min(1.0, self._reserved / self._kv_tokens)

    def fail(self, until_s: float) -> None:
        """Loses everything it has, and serves nothing before `until_s`."""
        for request in (*self.waiting, *self._prefilling, *(entry[2] for entry in self._decoding)):
            request.lost = True
        self.waiting.clear()
        self._prefilling.clear()
        self._decoding.clear()
        self._reserved = 0
        self.down_until_s = until_s

    def run(self, until_s: float, settings: EngineSettings) -> None:
        if self.down_until_s > self.clock_s:
            self.clock_s = max(self.clock_s, min(self.down_until_s, until_s))
        while self.clock_s < until_s:
            if not self.load:
                self.clock_s = until_s
                return
            self._step(until_s, settings)

    def _admit(self, settings: EngineSettings) -> None:
        while self.waiting and self.running < settings.max_batch_size:
            need = self.waiting[0].prompt + self.waiting[0].answer
            if self._reserved + need > self._kv_tokens and self.running:
                return
            request = self.waiting.popleft()
            request.prompt_left = request.prompt
            self._reserved += need
            self._prefilling.append(request)

    def _step(self, until_s: float, settings: EngineSettings) -> None:
        self._admit(settings)
        self.table = self.levels.of(settings)
        rows, prefill = len(self._decoding), 0
        ended: list[Request] = []
        budget = max(1, settings.max_batched_tokens - rows)
        while self._prefilling and budget:
            request = self._prefilling[0]
            chunk = min(budget, request.prompt_left)
            request.prompt_left -= chunk
            budget -= chunk
            prefill += chunk
            if request.prompt_left:
                break
            ended.append(self._prefilling.popleft())
        median_s = self.table.step_s(rows, prefill) * self._slow()
        alike = 1
        if not prefill:
            alike = max(1, min(self._decoding[0][0] - self._decoded, math.ceil((until_s - self.clock_s) / median_s)))
        step_s = median_s * self._noise(alike)
        self.clock_s += alike * step_s
        self.tally.steps.append((step_s, rows, prefill, alike))
        self._decoded += alike if rows else 0
        answered = rows * alike + len(ended)
        self.tally.tokens += answered
        self.tally.lost_quality += answered * self.levels.loss(settings)
        for request in ended:
            self._first_token(request)
        while self._decoding and self._decoding[0][0] <= self._decoded:
            self._finish(heapq.heappop(self._decoding)[2])

    def _first_token(self, request: Request) -> None:
        request.first_s = self.clock_s
        self.tally.first_tokens.append(self.clock_s - request.arrived_s)
        if request.answer == 1:
            self._finish(request)
            return
        self._admitted += 1
        heapq.heappush(self._decoding, (self._decoded + request.answer - 1, self._admitted, request))

    def _finish(self, request: Request) -> None:
        request.end_s = self.clock_s
        self._reserved -= request.prompt + request.answer
        self.tally.finished.append(request)

    def _slow(self) -> float:
        """Other work on the machine comes and goes by the minute, by as much as it did when the table was taken."""
        if self.clock_s >= self._drift_until_s:
            self._drift = float(self._rng.choice(self.table.drifts))
            self._drift_until_s = self.clock_s + _DRIFT_S
        return self._drift * self.interference

    def _noise(self, steps: int) -> float:
        """Mean of `steps` independent factors around the median: log-normal for one, by the central limit for many."""
        sigma = self.table.sigma
        if sigma == 0:
            return 1.0
        if steps == 1:
            return math.exp(sigma * float(self._rng.standard_normal()))
        mean = math.exp(sigma * sigma / 2)
        spread = mean * math.sqrt(math.expm1(sigma * sigma) / steps)
        return max(0.5, mean + spread * float(self._rng.standard_normal()))
