"""When requests arrive: a calm base load and a surge that comes back, as a Poisson process with a changing rate."""

import random
from dataclasses import dataclass

FIRST_SURGE_S = 70.0


@dataclass(frozen=True, slots=True)
class Surges:
    """Shape over time, in seconds: calm, ramp up, plateau, decline, calm, and again from the ramp after `period_s`."""

    first_s: float = FIRST_SURGE_S
    ramp_s: float = 25.0
    # Long enough that a canary which is judged twice still ends within it.
    plateau_s: float = 100.0
    decline_s: float = 20.0
    period_s: float = 330.0

    def level(self, at_s: float) -> float:
        """0 when calm, 1 on the plateau, between the two on the slopes."""
        if at_s < self.first_s:
            return 0.0
        since_s = (at_s - self.first_s) % self.period_s
        if since_s < self.ramp_s:
            return since_s / self.ramp_s
        since_s -= self.ramp_s
        if since_s < self.plateau_s:
            return 1.0
        return max(0.0, 1.0 - (since_s - self.plateau_s) / self.decline_s)


@dataclass(frozen=True, slots=True)
class Rates:
    """Requests per second over all nodes."""

    calm_rps: float
    surge_rps: float

    def at(self, level: float) -> float:
        return self.calm_rps + (self.surge_rps - self.calm_rps) * level


def next_arrival(after_s: float, rates: Rates, surges: Surges, source: random.Random) -> float:
    """Time of the next arrival.

    Thinning: candidates at the highest rate, each kept with the share that the rate then has of it (P. A. W. Lewis and
    G. S. Shedler, "Simulation of Nonhomogeneous Poisson Processes by Thinning", 1979).
    """
    peak = max(rates.calm_rps, rates.surge_rps)
    at_s = after_s
    while True:
        at_s += source.expovariate(peak)
        if source.random() * peak <= rates.at(surges.level(at_s)):
            return at_s


# Shares of what the pool serves at the batch size that it starts with. Calm leaves so much room that a chance cluster
# of arrivals is no surge: a window of 5 s holds a handful of requests, and twice as many are nothing rare.
CALM_SHARE = 0.22
# The surge lies between what the small batch and what a large one serves: it must need the tuner, and be within its reach.
MIN_SURGE, MAX_SURGE = 1.2, 1.5


def choose_rates(small_batch_rps: float, large_over_small: float) -> Rates:
    """small_batch_rps: measured capacity at the small batch. large_over_small: decode tokens/s at the large one, as a multiple.

    The surge is meant to lie midway, as a ratio, between both capacities. The probe's multiple holds for bare decode steps on an
    idle machine; with prefill, and two busy nodes on two cores, 1.9 was left of 3.8: half its logarithm. Hence the fourth root.
    """
    surge = min(MAX_SURGE, max(MIN_SURGE, large_over_small**0.25))
    return Rates(CALM_SHARE * small_batch_rps, surge * small_batch_rps)
