"""Analysis windows of a canary and its control, drawn as the simulation of the control-plane design (2.2) draws them."""

import math
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from controlplane.decisions.policy import OnInconclusive, RolloutPolicy, Slo
from controlplane.rollouts.arms import Pair, pairs
from controlplane.rollouts.plan import Mode, RolloutPlan
from controlplane.telemetry.observation import Observation, Quality

START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
CANARY, CONTROL = "canary-id", "control-id"


def plan(*, windows: int = 8, control: bool = True, **policy: object) -> RolloutPlan:
    """Two nodes: a canary and, if wanted, a control that is also the only wave."""
    wanted: dict[str, object] = {
        "window_s": 5.0, "windows": windows, "settle_s": 5.0, "min_requests": 20, "bake_s": 10.0,
        "progress_deadline_s": 120.0, "on_inconclusive": OnInconclusive.PAUSE,
    }  # fmt: skip
    return RolloutPlan(
        mode=Mode.CANARY,
        canary=(CANARY,),
        control=(CONTROL,) if control else (),
        waves=((CONTROL,),) if control else (),
        policy=RolloutPolicy.model_validate(wanted | policy),
        slo=Slo(),
    )


@dataclass(slots=True)
class World:
    """Two nodes under one load. Log-latency is a level, a shock that both share (AR(1)) and noise of each.

    `spread` is how much slower the control is by nature: what difference in differences takes out.
    """

    seed: int = 1
    ttft_s: float = 0.3
    itl_s: float = 0.06
    requests: float = 20.0
    shock_sd: float = 0.2
    noise_sd: float = 0.05
    spread: float = 1.05

    def pairs(
        self,
        before: int,
        after: int,
        *,
        ttft: float = 1.0,
        itl: float = 1.0,
        error_rate: float = 0.0,
        control: bool = True,
        window_s: float = 5.0,
    ) -> tuple[tuple[Pair, ...], tuple[Pair, ...]]:
        """Pairs before and after a change that multiplies the canary's latencies by `ttft` and `itl`."""
        random_ = random.Random(self.seed)
        shock = 0.0
        seen: dict[str, list[Observation]] = {CANARY: [], CONTROL: []}
        for k in range(before + after):
            shock = 0.8 * shock + random_.gauss(0, self.shock_sd * 0.6)
            changed = k >= before
            end = START + timedelta(seconds=window_s * (k + 1))
            seen[CANARY].append(
                self._window(
                    random_,
                    end,
                    shock,
                    ttft if changed else 1.0,
                    itl if changed else 1.0,
                    error_rate if changed else 0.0,
                )
            )
            seen[CONTROL].append(self._window(random_, end, shock, self.spread, self.spread, 0.0))
        found = pairs(seen, (CANARY,), (CONTROL,) if control else ())
        return found[:before], found[before:]

    def _window(
        self, random_: random.Random, end: datetime, shock: float, ttft: float, itl: float, error_rate: float
    ) -> Observation:
        requests = max(0, round(random_.gauss(self.requests, math.sqrt(self.requests)))) if self.requests else 0
        errors = sum(random_.random() < error_rate for _ in range(requests))
        return window(
            end,
            ttft_s=self.ttft_s * ttft * math.exp(shock + random_.gauss(0, self.noise_sd)) if requests else None,
            itl_s=self.itl_s * itl * math.exp(0.3 * shock + random_.gauss(0, self.noise_sd)) if requests else None,
            requests=requests - errors,
            errors=errors,
        )


def window(
    end: datetime,
    *,
    ttft_s: float | None = 0.3,
    itl_s: float | None = 0.06,
    requests: float = 20,
    errors: float = 0,
    rejected: float = 0,
    quality: Quality = Quality.OK,
    window_s: float = 5.0,
) -> Observation:
    """One window of one node."""
    return Observation(
        window_end=end,
        window_s=window_s,
        quality=quality,
        offered_rps=(requests + errors + rejected) / window_s,
        requests=float(requests),
        errors=float(errors),
        rejected=float(rejected),
        ttft_p95_s=ttft_s,
        itl_p95_s=itl_s,
        nodes_up=1,
    )
