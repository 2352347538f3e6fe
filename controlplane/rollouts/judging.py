"""When a rollout's canary is looked at, over which windows, and what may follow from an inconclusive look. Pure."""

from dataclasses import replace
from datetime import datetime

from controlplane.decisions.policy import OnInconclusive
from controlplane.rollouts import served
from controlplane.rollouts.analysis import Measurement, Report, Verdict, analyze
from controlplane.rollouts.arms import Pair
from controlplane.rollouts.phases import MOVES, RolloutPhase
from controlplane.rollouts.snapshot import RolloutSnapshot
from controlplane.rollouts.words import names_words

# control-plane design 2.2: missing metrics are an error after four windows in a row.
MISSING_WINDOWS = 4
BACK_WINDOWS = 2


def look(rollout: RolloutSnapshot, now: datetime) -> Report | None:
    """The verdict, when a look is due: after `windows` windows, after twice as many, or when the metrics stay away."""
    if _metrics_missing(rollout, now):
        return Report(
            Verdict.ERROR,
            f"there were no usable metrics of canary and control for {MISSING_WINDOWS} windows of "
            f"{rollout.plan.policy.window_s:g} s in a row; is Prometheus scraping them?",
        )
    wanted = _wanted(rollout)
    post = rollout.post()
    # Windows may be missing here and there; twice the time must do.
    if len(post) < wanted and len(rollout.post_slots(now)) < 2 * wanted:
        return None
    # A look takes the planned number of windows; only one that a person asked for by resuming takes all there are.
    seen = post if rollout.looks >= 2 else post[:wanted]
    return analyze(rollout.pre(), seen, rollout.plan, served_answers(rollout))


def served_answers(rollout: RolloutSnapshot) -> tuple[Measurement, ...]:
    """Of the canary's answers, where the change may make them worse."""
    return served.measure(rollout.served, rollout.plan.policy.served) if rollout.answers_at_stake else ()


def longer_helps(rollout: RolloutSnapshot, report: Report) -> bool:
    """Whether an inconclusive look is worth extending.

    A pause has time. Where the policy goes on anyway, only a doubt that more windows may settle is worth the wait: too few
    requests yet, or a latency that looks worse. A baseline that is too short does not grow.
    """
    if not promotes_inconclusive(rollout):
        return True
    requests = min((each.samples_canary for each in report.measurements if each.metric == "error_rate"), default=0)
    looks_worse = any(
        each.verdict is Verdict.INCONCLUSIVE and (each.effect_ratio or 0.0) > 1 + (each.margin or 0.0)
        for each in report.measurements
    )
    few_answers = any(
        each.verdict is Verdict.INCONCLUSIVE and each.metric in (served.KL, served.TOP1) for each in report.measurements
    )
    return looks_worse or few_answers or requests < rollout.plan.policy.min_requests


def promotes_inconclusive(rollout: RolloutSnapshot) -> bool:
    return rollout.plan.policy.on_inconclusive is OnInconclusive.PROMOTE


def metrics_are_back(rollout: RolloutSnapshot, now: datetime) -> bool:
    """Whether the newest windows are all there, and the canary tells of its answers where those are at stake."""
    before = rollout.paused_from is RolloutPhase.BASELINING
    if not before and rollout.answers_at_stake and served.unknown(rollout.served) is not None:
        return False
    slots = (rollout.pre_slots(now) if before else rollout.post_slots(now))[-BACK_WINDOWS:]
    there = {pair.end for pair in (rollout.pre() if before else rollout.post())}
    return len(slots) == BACK_WINDOWS and all(slot in there for slot in slots)


def progress(rollout: RolloutSnapshot, now: datetime) -> str:
    if rollout.judged_from is not None and now < rollout.judged_from:
        return f"letting the canary settle for another {(rollout.judged_from - now).total_seconds():.0f} s"
    return f"{len(rollout.post())} of {_wanted(rollout)} windows of canary against {control_words(rollout)} are there"


def control_words(rollout: RolloutSnapshot) -> str:
    control = [node for node in rollout.nodes if node.id in rollout.plan.control]
    return names_words(control) if control else "its own past (the pool has no second node)"


def without_control(pair: Pair) -> Pair:
    return replace(pair, control=None)


def moves(phase: RolloutPhase) -> frozenset[RolloutPhase]:
    return MOVES[phase]


def _wanted(rollout: RolloutSnapshot) -> int:
    return rollout.plan.policy.windows * min(2, rollout.looks + 1)


def _metrics_missing(rollout: RolloutSnapshot, now: datetime) -> bool:
    # The newest window may still be on its way.
    slots = [slot for slot in rollout.post_slots(now) if slot > rollout.phase_since][:-1][-MISSING_WINDOWS:]
    there = {pair.end for pair in rollout.post()}
    return len(slots) == MISSING_WINDOWS and not any(slot in there for slot in slots)
