"""Which requests come, and when: the same ones for every policy."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from controlplane.bench.replay.arrivals import Arrivals
from controlplane.bench.replay.case import telling_windows
from inference_node.bench.prompts import make_prompts
from trimtab.errors import UsageError
from trimtab.traffic.schedule import Rates, Surges, next_arrival

# Of the scored time: how long it is calm, rises, stays up and falls; what is left is calm again.
CALM, RAMP, PLATEAU, DECLINE = 0.3, 0.1, 0.3, 0.1
_MINUTE_S = 60.0


@dataclass(frozen=True, slots=True)
class Span:
    """How many tokens, from and to, both included, each as likely."""

    least: int
    most: int

    @classmethod
    def parse(cls, text: str, option: str) -> "Span":
        """`24-48`, or one number. Raises UsageError."""
        low, _, high = text.partition("-")
        try:
            span = cls(int(low), int(high or low))
        except ValueError:
            span = cls(0, 0)
        if not 1 <= span.least <= span.most:
            raise UsageError(f"{option} {text}: write how many tokens, from and to, say 32-96")
        return span

    @property
    def mean(self) -> float:
        return (self.least + self.most) / 2

    def draw(self, source: random.Random) -> int:
        return source.randint(self.least, self.most)


@dataclass(frozen=True, slots=True)
class Lengths:
    """Prompts are written in common words, of which each is about one token."""

    prompt: Span
    answer: Span


@dataclass(frozen=True, slots=True)
class Planned:
    """One request. `at_s`: when it is sent, in seconds since the run began. `answer`: tokens asked for."""

    at_s: float
    prompt: str
    answer: int


@dataclass(frozen=True, slots=True)
class Shape:
    """Seconds. The first `warm_s` are served, not scored; the schedule follows."""

    scored_s: float
    warm_s: float

    @property
    def total_s(self) -> float:
        return self.warm_s + self.scored_s

    @property
    def surges(self) -> Surges:
        """One surge, which does not come back."""
        return Surges(
            first_s=self.warm_s + CALM * self.scored_s,
            ramp_s=RAMP * self.scored_s,
            plateau_s=PLATEAU * self.scored_s,
            decline_s=DECLINE * self.scored_s,
            period_s=10 * self.total_s,
        )


def surge_times(shape: Shape, rates: Rates, seed: int) -> list[float]:
    """Arrivals of a Poisson process whose rate follows the schedule, in seconds, ascending."""
    source, at_s, found = random.Random(seed), 0.0, list[float]()
    while (at_s := next_arrival(at_s, rates, shape.surges, source)) < shape.total_s:
        found.append(at_s)
    return found


def calm_times(seconds: float, rate_rps: float, seed: int) -> list[float]:
    """Arrivals at a rate that does not change."""
    times = surge_times(Shape(scored_s=1.0, warm_s=seconds), Rates(rate_rps, rate_rps), seed)
    return [at_s for at_s in times if at_s < seconds]


def rising_window(arrivals: Arrivals, shape: Shape) -> Arrivals:
    """The stretch of the trace, as long as the scored time, that grows most. Raises UsageError for a shorter trace."""
    if arrivals.duration_s < shape.scored_s:
        minutes, least = arrivals.duration_s / _MINUTE_S, shape.scored_s / _MINUTE_S
        raise UsageError(
            f"--trace: {arrivals.name} is {minutes:.1f} min long; {least:g} are needed, or fewer --minutes"
        )
    return arrivals.part(arrivals.name, telling_windows(arrivals, shape.scored_s)["rising"], shape.scored_s)


def window_times(window: Arrivals, shape: Shape, calm_rps: float, seed: int) -> list[float]:
    """Its arrivals, scaled so that its median minute brings `calm_rps`, after random ones at that rate for the warm-up."""
    minute_s = min(_MINUTE_S, shape.scored_s)
    edges = np.arange(0.0, shape.scored_s + 1e-9, minute_s)
    median_rps = float(np.median(np.histogram(window.t, edges)[0])) / minute_s
    scaled = window.scaled(calm_rps / max(median_rps, 1 / minute_s), seed)
    return [
        *calm_times(shape.warm_s, calm_rps, seed),
        *(shape.warm_s + float(t) for t in scaled.t if t < shape.scored_s),
    ]


def requests_at(times: Sequence[float], lengths: Lengths, seed: int) -> tuple[Planned, ...]:
    """A prompt and a length for each arrival; no two prompts are alike."""
    source = random.Random(f"{seed}/lengths")
    words = [lengths.prompt.draw(source) for _ in times]
    prompts = [make_prompts(1, count, 0, f"{seed}/{number}")[0] for number, count in enumerate(words)]
    return tuple(Planned(at, prompt, lengths.answer.draw(source)) for at, prompt in zip(times, prompts, strict=True))
