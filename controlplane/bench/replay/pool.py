"""A simulated pool under recorded arrivals: what clients get of it, and what Prometheus would show."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np

from controlplane.bench.replay.arrivals import Arrivals
from controlplane.bench.replay.node import Request, SimulatedNode, Tally
from controlplane.bench.replay.step_table import Levels
from controlplane.telemetry.observation import Observation, Quality, missing
from inference_node.contract.settings import EngineSettings

START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Faults:
    """When a node is down (node, from, to), when Prometheus knows nothing (from, to), and when a node is slowed; in seconds."""

    outages: tuple[tuple[int, float, float], ...] = ()
    gaps: tuple[tuple[float, float], ...] = ()
    # (node, from, to, factor): other work on the same machine makes its steps that much longer.
    interference: tuple[tuple[int, float, float, float], ...] = ()

    @classmethod
    def drawn(cls, nodes: int, duration_s: float, seed: int) -> "Faults":
        """An hour has, on average, one outage of 60 to 180 s, one gap of 30 to 90 s, and for each node one stretch of 2 to 8
        minutes in which its steps take 1.1 to 1.5 times as long; the same ones for each policy."""
        rng = np.random.default_rng([seed, 1])
        hours = duration_s / 3600
        outages, gaps = [], []
        for _ in range(int(rng.poisson(hours)) if nodes > 1 else 0):
            start_s = float(rng.uniform(0, duration_s))
            outages.append((int(rng.integers(nodes)), start_s, start_s + float(rng.uniform(60, 180))))
        for _ in range(int(rng.poisson(hours))):
            start_s = float(rng.uniform(0, duration_s))
            gaps.append((start_s, start_s + float(rng.uniform(30, 90))))
        slowed = []
        for node in range(nodes):
            for _ in range(int(rng.poisson(hours))):
                start_s = float(rng.uniform(0, duration_s))
                slowed.append((node, start_s, start_s + float(rng.uniform(120, 480)), float(rng.uniform(1.1, 1.5))))
        return cls(tuple(sorted(outages, key=lambda outage: outage[1])), tuple(sorted(gaps)), tuple(slowed))


@dataclass
class SimulatedPool:
    """Requests go to the node in service that has least to do, as a balancer sends them."""

    arrivals: Arrivals
    levels: Levels
    settings: EngineSettings
    nodes: int
    kv_tokens: int
    seed: int = 0
    faults: Faults = Faults()
    now_s: float = 0.0
    requests: list[Request] = field(default_factory=list)
    # Answer tokens so far, and each times the share of quality that it lost.
    tokens: float = 0.0
    lost_quality: float = 0.0

    def __post_init__(self) -> None:
        self._nodes = [
            SimulatedNode(self.levels, self.kv_tokens, np.random.default_rng([self.seed, 2, node]))
            for node in range(self.nodes)
        ]
        self._failing = list(self.faults.outages)
        self._next = self._rejected = 0

    @property
    def at(self) -> datetime:
        return START + timedelta(seconds=self.now_s)

    @property
    def ended(self) -> bool:
        """Whether every request has come and is served or lost."""
        return self._next >= len(self.arrivals) and not any(node.load for node in self._nodes)

    @property
    def in_service(self) -> tuple[bool, ...]:
        return tuple(node.down_until_s <= self.now_s for node in self._nodes)

    @property
    def quality_loss(self) -> float:
        """Of an answer token, on average so far."""
        return self.lost_quality / self.tokens if self.tokens else 0.0

    def window(self, length_s: float) -> Observation:
        """Runs for `length_s` seconds under the settings in force and tells what was seen of them."""
        end_s, offered = self.now_s + length_s, 0
        for number, node in enumerate(self._nodes):
            node.interference = math.prod(
                factor
                for at, start, end, factor in self.faults.interference
                if at == number and start <= self.now_s < end
            )
        while self._next < len(self.arrivals) and self.arrivals.t[self._next] < end_s:
            self._run(float(self.arrivals.t[self._next]))
            self._arrive()
            offered += 1
        self._run(end_s)
        self.now_s = end_s
        seen = self._observe(length_s, offered)
        self._rejected = 0
        for node in self._nodes:
            self.tokens += node.tally.tokens
            self.lost_quality += node.tally.lost_quality
            node.tally = Tally()
        if any(start <= end_s < end for start, end in self.faults.gaps):
            return missing(self.at, length_s)
        return seen

    def _run(self, until_s: float) -> None:
        while self._failing and self._failing[0][1] <= until_s:
            number, start_s, end_s = self._failing.pop(0)
            self._nodes[number].run(start_s, self.settings)
            self._nodes[number].fail(end_s)
        for node in self._nodes:
            node.run(until_s, self.settings)

    def _arrive(self) -> None:
        at, self._next = self._next, self._next + 1
        when = float(self.arrivals.t[at])
        request = Request(when, int(self.arrivals.prompt[at]), int(self.arrivals.answer[at]))
        self.requests.append(request)
        up = [node for node in self._nodes if node.down_until_s <= when]
        least = min(up, key=lambda node: node.load, default=None)
        # As the engine counts: those that its next steps can take do not queue.
        if least is None or len(least.waiting) - least.room(self.settings) >= self.settings.max_queue:
            request.lost = True
            self._rejected += 1
            return
        least.waiting.append(request)

    def _observe(self, length_s: float, offered: int) -> Observation:
        tallies = [node.tally for node in self._nodes]
        steps = [step for tally in tallies for step in tally.steps]
        done = [request for tally in tallies for request in tally.finished]
        ttft = [seconds for tally in tallies for seconds in tally.first_tokens]
        count = sum(alike for _, _, _, alike in steps)
        gaps = [(seconds, rows * alike) for seconds, rows, _, alike in steps if rows]
        up = sum(self.in_service)
        return Observation(
            window_end=self.at,
            window_s=length_s,
            quality=Quality.OK if up == self.nodes else Quality.PARTIAL if up else Quality.MISSING,
            offered_rps=offered / length_s,
            prompt_tokens_per_s=sum(tokens * alike for _, _, tokens, alike in steps) / length_s,
            generation_tokens_per_s=(sum(weight for _, weight in gaps) + len(ttft)) / length_s,
            requests=float(len(done)),
            errors=0.0,
            rejected=float(self._rejected),
            running=float(sum(node.running for node in self._nodes)),
            waiting=float(sum(len(node.waiting) for node in self._nodes)),
            kv_usage=sum(node.kv_usage for node in self._nodes) / self.nodes,
            ttft_p50_s=_quantile([(seconds, 1) for seconds in ttft], 0.5),
            ttft_p95_s=_quantile([(seconds, 1) for seconds in ttft], 0.95),
            itl_p50_s=_quantile(gaps, 0.5),
            itl_p95_s=_quantile(gaps, 0.95),
            step_mean_s=sum(seconds * alike for seconds, _, _, alike in steps) / count if count else None,
            decode_rows_mean=sum(rows * alike for _, rows, _, alike in steps) / count if count else None,
            prefill_tokens_mean=sum(tokens * alike for _, _, tokens, alike in steps) / count if count else None,
            prompt_tokens_mean=sum(request.prompt for request in done) / len(done) if done else None,
            generation_tokens_mean=sum(request.answer for request in done) / len(done) if done else None,
            nodes_up=up,
        )


def _quantile(weighed: Sequence[tuple[float, int]], q: float) -> float | None:
    """Of values that occurred so often each: the smallest that q of them do not exceed."""
    if not weighed:
        return None
    values = np.array([value for value, _ in weighed])
    order = np.argsort(values)
    reached = np.cumsum(np.array([weight for _, weight in weighed], dtype=float)[order])
    return float(values[order][min(int(np.searchsorted(reached, q * reached[-1])), len(values) - 1)])
