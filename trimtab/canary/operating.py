"""Operating characteristics of the canary analysis: how often it takes back what is harmless, and lets through what is not.

The verdicts come from the code that judges real canaries; the noise from a recording of real nodes. Each simulated node has
the part of the noise that all recorded nodes shared (their mean log level, from one random place of the recording, the same for
all nodes of a trial) and the part that was its own (the rest of a random recorded node, from another random place). Series are
taken whole, so both keep their autocorrelation and their outliers. The rest is scaled by sqrt(n / (n - 1)), since the mean over n
nodes has taken its share of it. Effects are laid upon the canary's windows after the change.

A design that needs more windows than the recording holds begins the recording anew: some windows then stand both before and after
the change, where a difference in differences cancels them, and the figures flatter. Reports tell how many (`repeated_windows`).
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from controlplane.decisions.policy import OnInconclusive, RolloutPolicy, Slo
from controlplane.rollouts import guards
from controlplane.rollouts.analysis import Verdict, analyze
from controlplane.rollouts.arms import Pair, pairs
from controlplane.rollouts.plan import Mode, RolloutPlan
from controlplane.telemetry.observation import Observation, Quality
from trimtab.canary.noise import NoiseWindow, Recording

START = datetime(2026, 1, 1, tzinfo=UTC)
# A queue as long as this came from a stop of the whole machine: the recorded load left the nodes idle half of the time.
BACKLOG_S = 3.0
_LATENCIES = ("ttft_p95_s", "itl_p95_s")


@dataclass(frozen=True, slots=True)
class Effect:
    """What the change does: a factor on latencies, and a share of requests that fail."""

    name: str
    latency: float = 1.0
    errors: float = 0.0


@dataclass(frozen=True, slots=True)
class Design:
    """Nodes on each side and windows before and after; the verdict is read once, after all of them."""

    nodes: int
    windows: int


EFFECTS = (
    Effect("no change (A/A)"),
    Effect("latency +5 %", latency=1.05),
    Effect("latency +10 % (the margin)", latency=1.10),
    Effect("latency +20 %", latency=1.20),
    Effect("latency +30 %", latency=1.30),
    Effect("latency x 2", latency=2.0),
    Effect("errors +2 points", errors=0.02),
    Effect("errors +10 points", errors=0.10),
)
DESIGNS = (Design(1, 12), Design(1, 30), Design(1, 60), Design(3, 45), Design(3, 60))


@dataclass(frozen=True, slots=True)
class Noise:
    """A recording, taken apart: log levels that all nodes share, what is left of each, requests. None where nothing finished."""

    window_s: float
    shared: dict[str, list[float | None]]
    own: dict[str, list[list[float | None]]]
    requests: list[list[int]]

    @property
    def length(self) -> int:
        return len(self.requests[0])

    def repeated(self, design: Design) -> int:
        """How many windows a trial of this design uses twice, before the change and after it."""
        return max(0, 2 * design.windows - self.length)


def take_apart(recording: Recording) -> Noise:
    """Windows in which the machine stood still, or a node worked off what had piled up meanwhile, are left out for all nodes."""
    kept = [k for k in range(len(recording.nodes[0])) if all(_is_steady(node[k]) for node in recording.nodes)]
    nodes: list[list[NoiseWindow]] = [[seen for k in kept if (seen := node[k]) is not None] for node in recording.nodes]
    widen = math.sqrt(len(nodes) / (len(nodes) - 1))
    shared: dict[str, list[float | None]] = {}
    own: dict[str, list[list[float | None]]] = {}
    for name in _LATENCIES:
        logs = [[_log(getattr(seen, name)) for seen in node] for node in nodes]
        means = [_mean([node[k] for node in logs]) for k in range(len(kept))]
        shared[name] = means
        own[name] = [
            [
                None if value is None or mean is None else widen * (value - mean)
                for value, mean in zip(node, means, strict=True)
            ]
            for node in logs
        ]
    requests = [[seen.requests for seen in node] for node in nodes]
    return Noise(recording.window_s, shared, own, requests)


def trial(noise: Noise, design: Design, effect: Effect, seed: str) -> tuple[Verdict, str | None]:
    """One rollout: (verdict, what guard fired before it was due). A guard takes back, so its verdict is FAIL."""
    random_ = random.Random(seed)
    arms = [f"canary-{k}" for k in range(design.nodes)], [f"control-{k}" for k in range(design.nodes)]
    total, place = 2 * design.windows, random_.randrange(noise.length)
    seen = {name: _series(noise, name in arms[0], effect, total, place, random_) for name in (*arms[0], *arms[1])}
    plan = RolloutPlan(
        mode=Mode.CANARY, canary=tuple(arms[0]), control=tuple(arms[1]), waves=(tuple(arms[1]),),
        policy=RolloutPolicy(window_s=noise.window_s, windows=design.windows, on_inconclusive=OnInconclusive.PAUSE),
        slo=Slo(),
    )  # fmt: skip
    found = pairs(seen, plan.canary, plan.control)
    border = START + timedelta(seconds=noise.window_s * design.windows)
    pre = [pair for pair in found if pair.end <= border]
    post = [pair for pair in found if pair.end > border]
    fired = _first_guard(pre, post, plan)
    return (Verdict.FAIL, fired) if fired else (analyze(pre, post, plan).verdict, None)


def run(
    recording: Recording, *, trials: int, seed: int = 0, progress: Callable[[str], None],
    designs: Sequence[Design] = DESIGNS, effects: Sequence[Effect] = EFFECTS,
) -> dict[str, Any]:  # fmt: skip
    """Shares of verdicts per design and effect, as the report that `trimtab bench canary --json` prints."""
    noise = take_apart(recording)
    rows = []
    for design in designs:
        for effect in effects:
            found = [trial(noise, design, effect, f"{seed}/{design}/{effect}/{k}") for k in range(trials)]
            row = {
                "nodes_per_arm": design.nodes, "windows": design.windows, "effect": effect.name, "trials": trials,
                "repeated_windows": noise.repeated(design),
                "guard": sum(guard is not None for _, guard in found) / trials,
            }  # fmt: skip
            row |= {v.value.lower(): sum(verdict is v for verdict, _ in found) / trials for v in Verdict}
            rows.append(row)
            progress(
                f"{design.nodes}+{design.nodes} nodes, {design.windows} windows, {effect.name}: {row['fail']:.1%} FAIL"
            )
    return {
        "benchmark": "canary", "window_s": noise.window_s, "recorded_at": recording.recorded_at.isoformat(),
        "model": recording.model, "rate_rps": recording.rate_rps, "about": recording.about,
        "recorded_nodes": len(recording.nodes), "recorded_windows": noise.length, "seed": seed,
        "spread": spread(noise), "results": rows,
    }  # fmt: skip


def spread(noise: Noise) -> dict[str, dict[str, float]]:
    """How noisy the recording is: standard deviations of log p95, shared by all nodes and of each alone."""
    return {
        name: {
            "shared_sd": _deviation([value for value in noise.shared[name] if value is not None]),
            "own_sd": _deviation([value for node in noise.own[name] for value in node if value is not None]),
        }
        for name in _LATENCIES
    }


def _first_guard(pre: Sequence[Pair], post: Sequence[Pair], plan: RolloutPlan) -> str | None:
    """Looked at after each window, as the controller does."""
    for until in range(1, len(post) + 1):
        words = guards.fired(pre, post[:until], plan)
        if words is not None:
            return words
    return None


def _series(
    noise: Noise, is_canary: bool, effect: Effect, total: int, place: int, random_: random.Random
) -> list[Observation]:
    node, shift = random_.randrange(len(noise.requests)), random_.randrange(noise.length)
    windows = []
    for k in range(total):
        changed = is_canary and k >= total // 2
        there, mine = (place + k) % noise.length, (shift + k) % noise.length
        requests = noise.requests[node][mine]
        errors = sum(random_.random() < effect.errors for _ in range(requests)) if changed else 0
        facts: dict[str, Any] = {}
        for name in _LATENCIES:
            level, rest = noise.shared[name][there], noise.own[name][node][mine]
            known = level is not None and rest is not None and requests > errors
            factor = effect.latency if changed else 1.0
            facts[name] = factor * math.exp(level + rest) if known and level is not None and rest is not None else None
        windows.append(
            Observation(
                window_end=START + timedelta(seconds=noise.window_s * (k + 1)), window_s=noise.window_s,
                quality=Quality.OK, offered_rps=requests / noise.window_s, requests=float(requests - errors),
                errors=float(errors), rejected=0.0, **facts,
            )
        )  # fmt: skip
    return windows


def _is_steady(seen: NoiseWindow | None) -> bool:
    return seen is not None and (seen.ttft_p95_s is None or seen.ttft_p95_s <= BACKLOG_S)


def _log(value: float | None) -> float | None:
    return None if value is None or value <= 0 else math.log(value)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None


def _deviation(values: Sequence[float]) -> float:
    mean = sum(values) / len(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
