"""A rollout as it stands and the time in, actions out. Pure: it may run twice, or after any crash, and orders what is missing.

Precedence in every phase: abort, what is wrong with the canary, other requests, the freeze, and then the phase's own work.
"""

from datetime import datetime

from controlplane.events.kinds import EventKind, Severity
from controlplane.rollouts import judging, waiting
from controlplane.rollouts.actions import Action, Answer, Dispatch, Move, NextWave, NodeMove, Note, Step
from controlplane.rollouts.analysis import Report, Verdict
from controlplane.rollouts.moves import (
    LOOK_AGAIN_S,
    arrived,
    completed,
    give_up,
    now_do,
    overdue,
    pause,
    promote,
    resume,
    sendable,
    wait,
)
from controlplane.rollouts.overrides import abort, freeze, guard, lost_canary, request
from controlplane.rollouts.phases import NodeState, PausedBy, RolloutPhase
from controlplane.rollouts.snapshot import NodeView, RolloutSnapshot
from controlplane.rollouts.words import changes_words, names_words

P = RolloutPhase


def reconcile(rollout: RolloutSnapshot, now: datetime) -> Step:
    """What to do with the rollout now. At most one `Move`, always a legal one."""
    if rollout.phase.is_terminal:
        return Step((), None, "it has ended")
    if rollout.phase is P.ROLLING_BACK:
        return _rolling_back(rollout, now)
    return (
        abort(rollout)
        or lost_canary(rollout)
        or guard(rollout)
        or request(rollout)
        or freeze(rollout)
        or _PHASES[rollout.phase](rollout, now)
    )


def _validating(rollout: RolloutSnapshot, now: datetime) -> Step:
    if rollout.is_direct:
        return now_do(promote(rollout, "straight to all nodes, since these settings are known"))
    waits = waiting.look(rollout, now)
    if waits is not None:
        return now_do((waits,))
    if not all(node.ready for node in rollout.canaries):
        text = f"Nothing was changed: canary {names_words(rollout.canaries)} is not ready"
        return now_do((Move(P.REJECTED, EventKind.ROLLOUT_REJECTED, text, Severity.WARNING, outcome=text),))
    text = (
        f"Canary is {names_words(rollout.canaries)}, compared with {judging.control_words(rollout)}; "
        f"collecting {rollout.plan.policy.windows} windows of {rollout.plan.policy.window_s:g} s from before the change"
    )
    return now_do((Move(P.BASELINING, EventKind.ROLLOUT_STARTED, text),))


def _baselining(rollout: RolloutSnapshot, now: datetime) -> Step:
    lost = [node for node in rollout.canaries if not node.ready]
    if lost:
        text = f"Nothing was changed: canary {names_words(lost)} is no longer ready"
        return now_do((Move(P.CANCELLED, EventKind.ROLLOUT_CANCELLED, text, Severity.WARNING, outcome=text),))
    have, want = len(rollout.pre()), rollout.plan.policy.windows
    most_s = rollout.plan.policy.settle_s + (want + 2) * rollout.plan.policy.window_s
    if have < want and rollout.waited_s(now) < most_s:
        return wait(f"{have} of {want} baseline windows are there")
    if have == 0:
        # Without a single figure the canary could not be judged afterwards, either: fail closed.
        why = f"there were no usable metrics of the canary and its control for {rollout.waited_s(now):.0f} s"
        return now_do((pause(rollout, PausedBy.ERROR, why),))
    free = rollout.in_flight_free
    if free is not None and free < len(rollout.canaries):
        return wait("as many nodes of the fleet as may be in flight at once are in flight")
    text = f"Canary {names_words(rollout.canaries)} gets revision {rollout.to_number}: {changes_words(rollout.changes)}"
    if have < want:
        text += f" (with {have} of {want} baseline windows: there were no more)"
    ids = tuple(node.id for node in rollout.canaries)
    return now_do((Move(P.CANARY, EventKind.ROLLOUT_CANARY_STARTED, text), Dispatch(ids)))


def _canary(rollout: RolloutSnapshot, now: datetime) -> Step:
    marks = arrived(rollout, rollout.canaries)
    if all(node.runs(rollout.to_hash) for node in rollout.canaries):
        after_s = max(0.0, rollout.waited_s(now))
        text = f"Canary {names_words(rollout.canaries)} runs the new settings, {after_s:.1f} s after they were sent"
        return now_do((*marks, Move(P.ANALYZING, EventKind.ROLLOUT_CANARY_APPLIED, text)))
    return overdue(rollout, now, rollout.canaries) or wait("the canary has not confirmed the new settings yet", marks)


def _analyzing(rollout: RolloutSnapshot, now: datetime) -> Step:
    report = judging.look(rollout, now)
    if report is None:
        return wait(judging.progress(rollout, now))
    noted = Note(report)
    match report.verdict:
        case Verdict.PASS:
            return now_do((noted, *promote(rollout, f"the canary passed: {report.explanation}")))
        case Verdict.FAIL:
            return give_up(rollout, f"the canary failed: {report.explanation}", first=(noted,))
        case Verdict.ERROR:
            return now_do((noted, pause(rollout, PausedBy.ERROR, report.explanation)))
        case Verdict.INCONCLUSIVE:
            return _inconclusive(rollout, report)


def _inconclusive(rollout: RolloutSnapshot, report: Report) -> Step:
    """Extended once where longer may help; then what the policy names happens, and is called by its name."""
    if rollout.looks == 0 and judging.longer_helps(rollout, report):
        return Step((Note(report),), LOOK_AGAIN_S, "inconclusive, looking for as long again")
    if judging.promotes_inconclusive(rollout):
        text = f"inconclusive, and the policy says to go on when no guard fired (on_inconclusive: promote): {report.explanation}"
        return now_do((Note(report), *promote(rollout, text)))
    return now_do((Note(report), pause(rollout, PausedBy.INCONCLUSIVE, f"inconclusive: {report.explanation}")))


def _promoting(rollout: RolloutSnapshot, now: datetime) -> Step:
    wave = tuple(node for node in rollout.wave(rollout.step) if not node.left_out)
    crashed = [node for node in wave if node.crashed]
    if crashed:
        return _crashed(rollout, crashed)
    refused = [node for node in wave if node.touched and node.refusal is not None]
    if refused:
        node = refused[0]
        marked = NodeMove(node.id, NodeState.REJECTED, node.refusal)
        return give_up(rollout, f"node {node.name} refused the new settings: {node.refusal}", first=(marked,))
    marks = arrived(rollout, wave)
    sent = sendable(rollout, wave)
    if sent:
        return now_do((*marks, Dispatch(sent)))
    behind = [node for node in wave if not node.runs(rollout.to_hash)]
    silent = [n for n in rollout.touched if not n.reachable and not n.left_out and not n.runs(rollout.to_hash)]
    if behind and not any(node.touched for node in behind):
        return wait("as many nodes of the fleet as may be in flight at once are in flight", marks)
    if any(node.reachable for node in behind) or len(silent) > rollout.plan.tolerated_unreachable:
        return overdue(rollout, now, behind) or wait(f"waiting for {names_words(behind)} to confirm", marks)
    if rollout.step < len(rollout.plan.waves):
        following = rollout.wave(rollout.step + 1)
        text = f"Wave {rollout.step + 1} of {len(rollout.plan.waves)}: {names_words(following)}"
        # Those whose confirmation is noted in this very step are in flight no longer, but that is not counted yet.
        sent = sendable(rollout, following)
        return now_do((*marks, NextWave(rollout.step + 1, text), *((Dispatch(sent),) if sent else ())))
    if rollout.is_direct or rollout.plan.policy.bake_s == 0:
        return now_do((*marks, completed(rollout)))
    text = f"All waves are through; watching for {rollout.plan.policy.bake_s:g} s, ready to roll back"
    return now_do((*marks, Move(P.BAKING, EventKind.ROLLOUT_BAKING, text)))


def _crashed(rollout: RolloutSnapshot, crashed: list[NodeView]) -> Step:
    """One that crashed under the new settings goes back to the old ones alone; more than the plan tolerates take all back."""
    marks = tuple(
        NodeMove(node.id, NodeState.QUARANTINED, "it restarted right after the new settings were applied")
        for node in crashed
    )
    fallen = [node for node in rollout.nodes if node.state is NodeState.QUARANTINED and node.touched]
    if len(fallen) + len(crashed) > rollout.plan.tolerated_unreachable:
        return give_up(rollout, f"{names_words([*fallen, *crashed])} restarted under the new settings", first=marks)
    return now_do((Dispatch(tuple(node.id for node in crashed), back=True), *marks))


def _baking(rollout: RolloutSnapshot, now: datetime) -> Step:
    crashed = [node for node in rollout.touched if node.crashed and not node.left_out]
    if crashed:
        return _crashed(rollout, crashed)
    marks = arrived(rollout, rollout.nodes)
    left_s = rollout.plan.policy.bake_s - rollout.waited_s(now)
    if left_s > 0:
        return wait(f"watching for another {left_s:.0f} s", marks)
    return now_do((*marks, completed(rollout)))


def _paused(rollout: RolloutSnapshot, now: datetime) -> Step:
    limit_s = rollout.plan.policy.pause_limit_s
    if rollout.waited_s(now) > limit_s:
        return give_up(rollout, f"it was paused for longer than {limit_s:g} s, and nobody resumed it")
    if rollout.paused_by is PausedBy.FREEZE and rollout.frozen_reason is None:
        return now_do((resume(rollout, "the pool is no longer frozen"),))
    if rollout.paused_by is PausedBy.ERROR and judging.metrics_are_back(rollout, now):
        return now_do((resume(rollout, "the metrics are back"),))
    waits_for = {
        PausedBy.FREEZE: "the end of the freeze",
        PausedBy.ERROR: "the metrics, or a person to resume, promote or abort",
    }
    return wait(
        f"paused, waiting for {waits_for.get(rollout.paused_by or PausedBy.PERSON, 'a person to resume, promote or abort')}"
    )


def _rolling_back(rollout: RolloutSnapshot, now: datetime) -> Step:
    """Ends when every node that was touched and is alive reports the old settings; a silent one follows when it is back."""
    unsent = tuple(n.id for n in rollout.touched if n.state not in {NodeState.REVERTING, NodeState.REVERTED})
    if unsent:
        return now_do((Dispatch(unsent, back=True),))
    behind = [node for node in rollout.touched if not node.runs(rollout.from_hash)]
    marks: list[Action] = [
        NodeMove(node.id, NodeState.REVERTED)
        for node in rollout.touched
        if node.state is NodeState.REVERTING and node.runs(rollout.from_hash)
    ]
    answer = () if rollout.request is None else (Answer(rollout.request, refused="it is being rolled back already"),)
    awaited = [node for node in behind if node.reachable and node.refusal is None]
    late = (now - rollout.last_progress).total_seconds() > rollout.plan.policy.progress_deadline_s
    if awaited and not late:
        return wait(f"waiting for {names_words(awaited)} to confirm the old settings", (*answer, *marks))
    failed = [node for node in behind if node.reachable]
    if failed:
        why = "; ".join(
            f"{n.name} {f'refused: {n.refusal}' if n.refusal else 'did not answer in time'}" for n in failed
        )
        text = f"Rollback to revision {rollout.from_number} did not reach every node: {why}. They are tried again without end."
        move = Move(P.ROLLBACK_FAILED, EventKind.ROLLOUT_ROLLBACK_FAILED, text, Severity.ERROR, outcome=text)
        return now_do((*answer, *marks, move))
    took_s = rollout.waited_s(now)
    text = f"Revision {rollout.from_number} is back on {len(rollout.touched) - len(behind)} nodes after {took_s:.1f} s"
    if behind:
        text += f"; {names_words(behind)} cannot be reached and gets it when it is back"
    return now_do((*answer, *marks, Move(P.ROLLED_BACK, EventKind.ROLLOUT_ROLLED_BACK, text, Severity.WARNING)))


_PHASES = {
    P.VALIDATING: _validating,
    P.PENDING_APPROVAL: waiting.reconcile,
    P.SCHEDULED: waiting.reconcile,
    P.BASELINING: _baselining,
    P.CANARY: _canary,
    P.ANALYZING: _analyzing,
    P.PROMOTING: _promoting,
    P.BAKING: _baking,
    P.PAUSED: _paused,
}
