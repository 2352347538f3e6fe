"""`python -m tests.benchmarks.exploration [SEEDS [TRIES]]`: both arms of exploration, and one that is blind, on pools whose truth
no model of ours knows.

Each seed draws a pool: steps are padded to a share of the largest batch, rows beyond a knee cost more, large token budgets slow
each step. The model knows the line below the knee. Each arm tries so many settings on one node beside a peer, a try is ended as
the controller would, and what it showed is measured by the product's own code. Blind: any settings within the trust region whose
prediction meets the objectives. Unsafe is a try that had to be ended early. Found is the true capacity of the best settings that
were tried and need not be ended, over the best such within the trust region.
"""

import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from statistics import fmean, median, stdev

from controlplane.decisions.decide import decide
from controlplane.decisions.decision import DecisionInputs
from controlplane.decisions.exploration import Chosen, choose
from controlplane.decisions.exploration_gates import Declined, open_situation
from controlplane.decisions.exploration_policy import ExplorationMode, ExplorationPolicy
from controlplane.decisions.explored import Tried
from controlplane.decisions.objective import predict
from controlplane.decisions.optimizer import propose
from controlplane.decisions.policy import Policy, Slo
from controlplane.rollouts.exploration_outcome import TryOutcome, measure
from controlplane.rollouts.exploration_watch import Under, ending
from controlplane.rollouts.exploration_windows import stretches
from controlplane.telemetry.observation import Observation
from inference_node.contract.settings import EngineSettings
from tests.support.exploring import AT, calm
from tests.support.simulated_pool import SimulatedPool

WINDOW_S, BEFORE, DURING = 15.0, 24, 40
BASE = EngineSettings(max_batch_size=8)
NODE_RPS = 1.0
LEASE_S = WINDOW_S * DURING
POLICY = Policy(slo=Slo(ttft_p95_s=1.5, itl_p95_s=0.1), exploration=ExplorationPolicy(mode=ExplorationMode.MODEL))
Pick = Callable[[DecisionInputs, tuple[Tried, ...]], EngineSettings | None]


@dataclass(frozen=True)
class Truth:
    """padded: share of the largest batch that every step is charged for at least; steep: further cost of rows beyond the knee."""

    padded: float
    knee: int
    steep: float
    budget: float

    @classmethod
    def drawn(cls, seed: int) -> "Truth":
        draw = random.Random(seed)
        return cls(draw.uniform(0, 1), draw.randint(6, 20), draw.uniform(0, 0.012), draw.uniform(0, 0.3))

    def step_s(self, rows: float, prefill_tokens: float, settings: EngineSettings) -> float:
        charged = max(rows, self.padded * settings.max_batch_size)
        slower = 1 + self.budget * max(0.0, settings.max_batched_tokens / 512 - 1)
        return (0.03 + 0.003 * charged + self.steep * max(0.0, charged - self.knee) + 0.0008 * prefill_tokens) * slower

    def capacity_rps(self, settings: EngineSettings) -> float:
        """Of one node: an average request's steps at a full batch."""
        rows = settings.max_batch_size
        return 1 / (48 / rows * self.step_s(rows, 40 * rows / 48, settings))


def windows(truth: Truth, tried: EngineSettings, at: datetime, seed: int) -> list[Observation]:
    """Of one node, which gets other settings `at`; BEFORE windows earlier and DURING later."""
    pool = SimulatedPool(lambda _: NODE_RPS, BASE, nodes=1, seed=seed, step_s=truth.step_s)
    found = []
    for number in range(BEFORE + DURING):
        if number == BEFORE:
            pool.settings = tried
        found.append(
            replace(pool.window(WINDOW_S), window_end=at + timedelta(seconds=WINDOW_S * (number + 1 - BEFORE)))
        )
    return found


def given(truth: Truth, at: datetime, seed: int, mode: ExplorationMode) -> DecisionInputs:
    seen = windows(truth, BASE, at, seed)[:BEFORE]
    pool = tuple(replace(each, offered_rps=2 * NODE_RPS, waiting=0.0) for each in seen)
    policy = POLICY.model_copy(update={"exploration": ExplorationPolicy(mode=mode)})
    return calm(at, load=2 * NODE_RPS, policy=policy, settings=BASE, history=pool, observation=pool[-1])


def attempt(truth: Truth, inputs: DecisionInputs, tried: EngineSettings, seed: int) -> tuple[TryOutcome, bool]:
    """What the try showed, and whether it was ended for the harm it did."""
    at = inputs.now
    node, peer = windows(truth, tried, at, seed), windows(truth, BASE, at, seed + 1)
    until, unfit = at + timedelta(seconds=LEASE_S), None
    for count in range(1, DURING + 1):
        under = Under(
            began=at, lease_s=LEASE_S, node_name="n1", overtaken=None, refused=None, applied=True, restarted=False,
            reachable=True, windows=tuple(node[BEFORE : BEFORE + count]),
        )  # fmt: skip
        over = ending(under, inputs, decide(inputs))
        if over is not None and over.unfit:
            until, unfit = at + timedelta(seconds=WINDOW_S * count), over.why
            break
    seen = stretches({"n1": node, "n2": peer}, "n1", began=at, applied=at, ended=until, settle_s=WINDOW_S)
    return measure(inputs, tried, seen, unfit), unfit is not None


def by_choice(inputs: DecisionInputs, past: tuple[Tried, ...]) -> EngineSettings | None:
    found = choose(inputs, past)
    return found.option.settings if isinstance(found, Chosen) else None


def blindly(inputs: DecisionInputs, past: tuple[Tried, ...]) -> EngineSettings | None:
    situation = open_situation(inputs, past)
    if isinstance(situation, Declined):
        return None
    known, slo, fit = {each.settings for each in past}, inputs.policy.slo, []
    for proposal in propose(inputs.settings, inputs.policy, inputs.nodes)[1:]:
        model = situation.model_for(proposal.settings, proposal.step_time_ratio)
        if model is None or proposal.settings in known:
            continue
        then = predict(model, situation.load.planned_rps, situation.load, 0.0)
        if then.ttft_p95_s <= slo.ttft_p95_s and then.itl_p95_s <= slo.itl_p95_s:
            fit.append(proposal.settings)
    return random.Random(inputs.now.isoformat()).choice(fit) if fit else None


@dataclass(frozen=True)
class Try:
    """found: the best true capacity so far, over the best that is safe."""

    unsafe: bool
    found: float


def run(seed: int, mode: ExplorationMode, pick: Pick, tries: int, best: float) -> list[Try]:
    """Fewer than `tries` where nothing is left that the arm would try."""
    truth, past, done, most = Truth.drawn(seed), tuple[Tried, ...](), list[Try](), Truth.drawn(seed).capacity_rps(BASE)
    for number in range(tries):
        at = AT + timedelta(hours=2 * number, seconds=seed)
        inputs = given(truth, at, 1000 * seed + number, mode)
        tried = pick(inputs, past)
        if tried is None:
            break
        outcome, harmed = attempt(truth, inputs, tried, 1000 * seed + 100 + 2 * number)
        until = at + timedelta(seconds=LEASE_S)
        past = (
            *past,
            Tried(at, tried, BASE, outcome.node_rps, until, outcome.verdict, outcome.errors, outcome.harmful),
        )
        most = most if harmed else max(most, truth.capacity_rps(tried))
        done.append(Try(harmed, most / best))
    return done


def best_safe(seed: int) -> float:
    """Largest true capacity of what need not be ended early."""
    truth = Truth.drawn(seed)
    inputs = given(truth, AT, 1000 * seed, ExplorationMode.MODEL)
    ranked = sorted(
        {each.settings for each in propose(BASE, POLICY, inputs.nodes)}, key=truth.capacity_rps, reverse=True
    )
    for settings in ranked:
        if not attempt(truth, inputs, settings, 1000 * seed + 500)[1]:
            return truth.capacity_rps(settings)
    return truth.capacity_rps(BASE)


def report(name: str, runs: Sequence[list[Try]], count: int, base: Sequence[float]) -> str:
    """base: what is found by no try at all."""
    cut = [each[:count] for each in runs]
    shares = [fmean(t.unsafe for t in each) for each in cut if each]
    found = sorted(each[-1].found if each else least for each, least in zip(cut, base, strict=True))
    harmed, tries = sum(t.unsafe for each in cut for t in each), sum(map(len, cut))
    return (
        f"{name:7} after {count}: unsafe {harmed:3} of {tries:3}, {fmean(shares):5.1%} a pool (sd {stdev(shares):.1%}); "
        f"found {fmean(found):6.1%} (sd {stdev(found):.1%}, p10 {found[len(found) // 10]:.1%}, median {median(found):.1%})\n"
    )


def main() -> None:
    seeds, tries = (int(each) for each in (sys.argv[1:] + ["24", "6"][len(sys.argv) - 1 :]))
    best = {seed: best_safe(seed) for seed in range(seeds)}
    base = [Truth.drawn(seed).capacity_rps(BASE) / best[seed] for seed in range(seeds)]
    sys.stdout.write(f"{seeds} pools; the settings in force have {fmean(base):.1%} of the best safe capacity\n")
    for name, mode, pick in (
        ("blind", ExplorationMode.RANDOM, blindly),
        ("random", ExplorationMode.RANDOM, by_choice),
        ("model", ExplorationMode.MODEL, by_choice),
    ):
        runs = [run(seed, mode, pick, tries, best[seed]) for seed in range(seeds)]
        for count in sorted({1, 3, tries}):
            sys.stdout.write(report(name, runs, count, base))
            sys.stdout.flush()


if __name__ == "__main__":
    main()
