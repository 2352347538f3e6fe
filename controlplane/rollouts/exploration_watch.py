"""When a try ends: with its lease, or at once where anything presses, breaks or vanishes. Pure.

What the control plane cannot see for a while is no reason, since the node ends the lease by itself; three windows without any
figures are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from controlplane.decisions import explain_burn
from controlplane.decisions.decision import Decision, DecisionInputs
from controlplane.decisions.error_budget import burn_of
from controlplane.decisions.exploration_policy import ExplorationMode
from controlplane.decisions.guardrails import ready_nodes
from controlplane.decisions.policy import Slo
from controlplane.decisions.reasons import Outcome, Reason
from controlplane.rollouts import served
from controlplane.telemetry.observation import Observation
from inference_node.contract.served import ServedQuality

# A single window of few requests is chance; two in a row are not waited out.
_BAD_WINDOWS, _BLIND_WINDOWS, _LEAST_FAILED = 2, 3, 2
# Of a pool that is calm, or of which nothing is known just now.
_CALM = {Reason.WITHIN_SLO}
_LEASE_OVER = "its lease is over"
_BLIND = {Reason.NO_DATA, Reason.STALE_DATA, Reason.MODEL_NOT_READY}


@dataclass(frozen=True, slots=True)
class Under:
    """A try and its node as SQL has them. overtaken: since when another wish than the try's holds for the node, None while the
    try's does; applied: whether it had the settings; windows: its since then, oldest first; refused: what it said then;
    answers: how far they lie from full precision, where that is scored."""

    began: datetime
    lease_s: float
    node_name: str
    overtaken: datetime | None
    refused: str | None
    applied: bool
    restarted: bool
    reachable: bool
    windows: tuple[Observation, ...]
    answers: ServedQuality | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """at: until when the node had the settings. unfit: whether the settings themselves are why, which makes the verdict."""

    at: datetime
    why: str
    unfit: bool = False


def ending(under: Under, inputs: DecisionInputs, decision: Decision) -> Ending | None:
    """None while it goes on."""
    return _by_node(under, inputs) or _by_pool(inputs, decision) or _by_time(under, inputs.now)


def _by_node(under: Under, inputs: DecisionInputs) -> Ending | None:
    now, name = inputs.now, under.node_name
    over = under.began + timedelta(seconds=under.lease_s)
    if under.overtaken is not None and under.overtaken >= over:  # it went back, whatever became of it since
        return Ending(under.overtaken, _LEASE_OVER)
    if under.refused is not None:
        return Ending(now, f"node {name} refused the settings: {under.refused}", unfit=True)
    if under.overtaken is not None:  # what the node did since then is not the try's
        return Ending(under.overtaken, f"other settings were wished for node {name}")
    if under.restarted:
        return Ending(now, f"node {name} restarted", unfit=under.applied)
    if not under.reachable:
        return Ending(now, f"node {name} is not heard of any more")
    broken = _breaks(under.windows, inputs.policy.slo) or served.fired([under.answers], inputs.policy.rollout.served)
    return None if broken is None else Ending(now, f"node {name}: {broken}", unfit=True)


def _by_pool(inputs: DecisionInputs, decision: Decision) -> Ending | None:
    if inputs.policy.exploration.mode is ExplorationMode.OFF:
        return Ending(inputs.now, "the policy explores nothing any more")
    if inputs.alarm is not None:
        return Ending(inputs.now, f"protection is asked for ({inputs.alarm})")
    burn = burn_of(inputs.served, inputs.policy)
    if burn.freezes:
        return Ending(inputs.now, explain_burn.said(burn, inputs.policy))
    nodes, newest = ready_nodes(inputs), inputs.history[-_BAD_WINDOWS:]
    if len(newest) == _BAD_WINDOWS and all((seen.waiting or 0.0) >= max(nodes, 1) for seen in newest):
        return Ending(inputs.now, f"{newest[-1].waiting:g} requests are waiting in the pool")
    if decision.outcome is Outcome.HOLD and decision.reason in _CALM:
        return None
    if decision.outcome is Outcome.HOLD and decision.reason in _BLIND:
        last = inputs.history[-_BLIND_WINDOWS:]
        if len(last) < _BLIND_WINDOWS or any(seen.usable for seen in last):
            return None
    return Ending(inputs.now, f"the pool is not calm any more ({decision.reason.value})")


def _by_time(under: Under, now: datetime) -> Ending | None:
    over = under.began + timedelta(seconds=under.lease_s)
    return Ending(over, _LEASE_OVER) if now >= over else None


def _breaks(windows: Sequence[Observation], slo: Slo) -> str | None:
    """What the node's newest windows break, in words."""
    newest = windows[-_BAD_WINDOWS:]
    if len(newest) < _BAD_WINDOWS:
        return None
    for metric, words, limit in (("ttft_p95_s", "TTFT", slo.ttft_p95_s), ("itl_p95_s", "ITL", slo.itl_p95_s)):
        if all((getattr(seen, metric) or 0.0) > limit for seen in newest):
            return f"p95 {words} was over its objective of {limit:g} s in {_BAD_WINDOWS} windows"
    failed = sum(seen.errors or 0.0 for seen in windows)
    ended = failed + sum(seen.requests or 0.0 for seen in windows)
    if failed >= _LEAST_FAILED and failed > slo.error_rate * ended:
        return f"{failed:.0f} of {ended:.0f} requests failed"
    refused = sum(seen.rejected or 0.0 for seen in windows)
    if refused >= _LEAST_FAILED and refused > (1 - slo.attainment) * (refused + ended):
        return f"{refused:.0f} of {refused + ended:.0f} requests were refused"
    return None
