"""A rollout as it stands and the time in, actions out. Pure: it may run twice, or after any crash, and orders what is missing.

Precedence in every phase: abort, what is wrong with the canary, other requests, the freeze, and then the phase's own work.
"""

from datetime import datetime

from controlplane.events.kinds import EventKind, Severity
from controlplane.rollouts import guards, judging
from controlplane.rollouts.actions import Action, Answer, Dispatch, Move, NextWave, NodeMove, Note, Step
from controlplane.rollouts.analysis import Report, Verdict
from controlplane.rollouts.phases import NodeState, PausedBy, RolloutPhase, Verb
from controlplane.rollouts.snapshot import NodeView, RolloutSnapshot
from controlplane.rollouts.words import changes_words, names_words

P = RolloutPhase
_FREEZABLE = {P.BASELINING, P.CANARY, P.ANALYZING, P.PROMOTING}
_PROMOTABLE = {P.ANALYZING, P.PROMOTING, P.BAKING}
LOOK_AGAIN_S = 1.0


def reconcile(rollout: RolloutSnapshot, now: datetime) -> Step:
    """What to do with the rollout now. At most one `Move`, always a legal one."""
    if rollout.phase.is_terminal:
        return Step((), None, "it has ended")
    if rollout.phase is P.ROLLING_BACK:
        return _rolling_back(rollout, now)
    return (
        _abort(rollout)
        or _lost_canary(rollout)
        or _guard(rollout)
        or _request(rollout)
        or _freeze(rollout)
        or _PHASES[rollout.phase](rollout, now)
    )


# What overrides the phase's own work -----------------------------------------------------------------------------------


def _abort(rollout: RolloutSnapshot) -> Step | None:
    if rollout.request not in {Verb.ABORT, Verb.ROLLBACK}:
        return None
    words = f"{rollout.request_actor} asked to {'abort' if rollout.request is Verb.ABORT else 'roll back'}"
    if rollout.request_reason:
        words += f": {rollout.request_reason}"
    return _give_up(rollout, words, actor=rollout.request_actor, answered=rollout.request)


def _lost_canary(rollout: RolloutSnapshot) -> Step | None:
    """A canary that refuses, vanishes or restarts under the new settings has failed, whatever its figures were."""
    for node in rollout.canaries:
        if not node.touched:
            continue
        if node.refusal is not None:
            marked = NodeMove(node.id, NodeState.REJECTED, node.refusal)
            return _give_up(rollout, f"canary {node.name} refused the new settings: {node.refusal}", first=(marked,))
        if not node.reachable:
            marked = NodeMove(node.id, NodeState.UNREACHABLE, "no heartbeat")
            words = f"canary {node.name} has not been heard of since it was sent the new settings"
            return _give_up(rollout, words, first=(marked,))
        if node.instance_id != node.instance_at_dispatch:
            return _give_up(rollout, f"canary {node.name} restarted under the new settings")
    return None


def _guard(rollout: RolloutSnapshot) -> Step | None:
    """Hard guards hold in a pause, too."""
    pre, plan = rollout.pre(), rollout.plan
    alone = tuple(judging.without_control(pair) for pair in pre)
    words = guards.fired(pre, rollout.post(), plan) or guards.fired(alone, rollout.watched(), plan)
    if words is None:
        return None
    return _give_up(rollout, words, first=(Note(Report(Verdict.FAIL, f"guard: {words}")),))


def _request(rollout: RolloutSnapshot) -> Step | None:
    verb, actor = rollout.request, rollout.request_actor
    if verb is None or rollout.phase is P.VALIDATING:  # that lasts one step; the request is met after it
        return None
    because = f": {rollout.request_reason}" if rollout.request_reason else ""
    at = rollout.paused_from if rollout.phase is P.PAUSED else rollout.phase
    if verb is Verb.PAUSE and rollout.phase is not P.PAUSED and P.PAUSED in judging.moves(rollout.phase):
        move = _pause(rollout, PausedBy.PERSON, f"{actor} paused it{because}", actor)
        return _now((Answer(verb), move))
    if verb is Verb.RESUME and rollout.phase is P.PAUSED and rollout.paused_from is not None:
        return _now((Answer(verb), _resume(rollout, f"{actor} resumed it{because}", actor)))
    if verb is Verb.PROMOTE and at in _PROMOTABLE and (rollout.phase is P.PAUSED or at is not P.PROMOTING):
        if at is P.BAKING:
            return _now((Answer(verb), _completed(rollout, f"{actor} ended the watch early{because}", actor)))
        return _now((Answer(verb), *_promote(rollout, f"{actor} promoted it{because}", actor)))
    return _now((Answer(verb, refused=f"{verb.value} is not possible in {rollout.phase.value}"),))


def _freeze(rollout: RolloutSnapshot) -> Step | None:
    if rollout.frozen_reason is None or rollout.phase not in _FREEZABLE or rollout.is_direct:
        return None
    return _now((_pause(rollout, PausedBy.FREEZE, f"the pool was frozen ({rollout.frozen_reason})"),))


# Phase by phase --------------------------------------------------------------------------------------------------------


def _validating(rollout: RolloutSnapshot, now: datetime) -> Step:
    if rollout.is_direct:
        return _now(_promote(rollout, "straight to all nodes, since these settings are known"))
    wrong = None
    if rollout.frozen_reason is not None:
        wrong = f"the pool is frozen ({rollout.frozen_reason})"
    elif not all(node.ready for node in rollout.canaries):
        wrong = f"canary {names_words(rollout.canaries)} is not ready"
    if wrong is not None:
        text = f"Nothing was changed: {wrong}"
        return _now((Move(P.REJECTED, EventKind.ROLLOUT_REJECTED, text, Severity.WARNING, outcome=text),))
    text = (
        f"Canary is {names_words(rollout.canaries)}, compared with {judging.control_words(rollout)}; "
        f"collecting {rollout.plan.policy.windows} windows of {rollout.plan.policy.window_s:g} s from before the change"
    )
    return _now((Move(P.BASELINING, EventKind.ROLLOUT_STARTED, text),))


def _baselining(rollout: RolloutSnapshot, now: datetime) -> Step:
    lost = [node for node in rollout.canaries if not node.ready]
    if lost:
        text = f"Nothing was changed: canary {names_words(lost)} is no longer ready"
        return _now((Move(P.CANCELLED, EventKind.ROLLOUT_CANCELLED, text, Severity.WARNING, outcome=text),))
    have, want = len(rollout.pre()), rollout.plan.policy.windows
    most_s = rollout.plan.policy.settle_s + (want + 2) * rollout.plan.policy.window_s
    if have < want and rollout.waited_s(now) < most_s:
        return _wait(f"{have} of {want} baseline windows are there")
    if have == 0:
        # Without a single figure the canary could not be judged afterwards, either: fail closed.
        why = f"there were no usable metrics of the canary and its control for {rollout.waited_s(now):.0f} s"
        return _now((_pause(rollout, PausedBy.ERROR, why),))
    text = f"Canary {names_words(rollout.canaries)} gets revision {rollout.to_number}: {changes_words(rollout.changes)}"
    if have < want:
        text += f" (with {have} of {want} baseline windows: there were no more)"
    ids = tuple(node.id for node in rollout.canaries)
    return _now((Move(P.CANARY, EventKind.ROLLOUT_CANARY_STARTED, text), Dispatch(ids)))


def _canary(rollout: RolloutSnapshot, now: datetime) -> Step:
    marks = _arrived(rollout, rollout.canaries)
    if all(node.runs(rollout.to_hash) for node in rollout.canaries):
        after_s = max(0.0, rollout.waited_s(now))
        text = f"Canary {names_words(rollout.canaries)} runs the new settings, {after_s:.1f} s after they were sent"
        return _now((*marks, Move(P.ANALYZING, EventKind.ROLLOUT_CANARY_APPLIED, text)))
    return _overdue(rollout, now, rollout.canaries) or _wait("the canary has not confirmed the new settings yet", marks)


def _analyzing(rollout: RolloutSnapshot, now: datetime) -> Step:
    report = judging.look(rollout, now)
    if report is None:
        return _wait(judging.progress(rollout, now))
    noted = Note(report)
    match report.verdict:
        case Verdict.PASS:
            return _now((noted, *_promote(rollout, f"the canary passed: {report.explanation}")))
        case Verdict.FAIL:
            return _give_up(rollout, f"the canary failed: {report.explanation}", first=(noted,))
        case Verdict.ERROR:
            return _now((noted, _pause(rollout, PausedBy.ERROR, report.explanation)))
        case Verdict.INCONCLUSIVE:
            return _inconclusive(rollout, report)


def _inconclusive(rollout: RolloutSnapshot, report: Report) -> Step:
    """Extended once where longer may help; then what the policy names happens, and is called by its name."""
    if rollout.looks == 0 and judging.longer_helps(rollout, report):
        return Step((Note(report),), LOOK_AGAIN_S, "inconclusive, looking for as long again")
    if judging.promotes_inconclusive(rollout):
        text = f"inconclusive, and the policy says to go on when no guard fired (on_inconclusive: promote): {report.explanation}"
        return _now((Note(report), *_promote(rollout, text)))
    return _now((Note(report), _pause(rollout, PausedBy.INCONCLUSIVE, f"inconclusive: {report.explanation}")))


def _promoting(rollout: RolloutSnapshot, now: datetime) -> Step:
    wave = rollout.wave(rollout.step)
    refused = [node for node in wave if node.touched and node.refusal is not None]
    if refused:
        node = refused[0]
        marked = NodeMove(node.id, NodeState.REJECTED, node.refusal)
        return _give_up(rollout, f"node {node.name} refused the new settings: {node.refusal}", first=(marked,))
    unsent = tuple(node.id for node in wave if not node.touched)
    if unsent:
        return _now((Dispatch(unsent),))
    marks = _arrived(rollout, wave)
    behind = [node for node in wave if not node.runs(rollout.to_hash)]
    silent = [node for node in rollout.touched if not node.reachable and not node.runs(rollout.to_hash)]
    if any(node.reachable for node in behind) or len(silent) > rollout.plan.tolerated_unreachable:
        waiting = f"waiting for {names_words(behind)} to confirm the new settings"
        return _overdue(rollout, now, behind) or _wait(waiting, marks)
    if rollout.step < len(rollout.plan.waves):
        following = rollout.wave(rollout.step + 1)
        text = f"Wave {rollout.step + 1} of {len(rollout.plan.waves)}: {names_words(following)}"
        return _now((*marks, NextWave(rollout.step + 1, text), Dispatch(tuple(node.id for node in following))))
    if rollout.is_direct or rollout.plan.policy.bake_s == 0:
        return _now((*marks, _completed(rollout)))
    text = f"All waves are through; watching for {rollout.plan.policy.bake_s:g} s, ready to roll back"
    return _now((*marks, Move(P.BAKING, EventKind.ROLLOUT_BAKING, text)))


def _baking(rollout: RolloutSnapshot, now: datetime) -> Step:
    marks = _arrived(rollout, rollout.nodes)
    left_s = rollout.plan.policy.bake_s - rollout.waited_s(now)
    if left_s > 0:
        return _wait(f"watching for another {left_s:.0f} s", marks)
    return _now((*marks, _completed(rollout)))


def _paused(rollout: RolloutSnapshot, now: datetime) -> Step:
    if rollout.paused_by is PausedBy.FREEZE and rollout.frozen_reason is None:
        return _now((_resume(rollout, "the pool is no longer frozen"),))
    if rollout.paused_by is PausedBy.ERROR and judging.metrics_are_back(rollout, now):
        return _now((_resume(rollout, "the metrics are back"),))
    waits_for = {
        PausedBy.FREEZE: "the end of the freeze",
        PausedBy.ERROR: "the metrics, or a person to resume, promote or abort",
    }
    return _wait(
        f"paused, waiting for {waits_for.get(rollout.paused_by or PausedBy.PERSON, 'a person to resume, promote or abort')}"
    )


def _rolling_back(rollout: RolloutSnapshot, now: datetime) -> Step:
    """Ends when every node that was touched and is alive reports the old settings; a silent one follows when it is back."""
    unsent = tuple(n.id for n in rollout.touched if n.state not in {NodeState.REVERTING, NodeState.REVERTED})
    if unsent:
        return _now((Dispatch(unsent, back=True),))
    behind = [node for node in rollout.touched if not node.runs(rollout.from_hash)]
    marks: list[Action] = [
        NodeMove(node.id, NodeState.REVERTED)
        for node in rollout.touched
        if node.state is NodeState.REVERTING and node.runs(rollout.from_hash)
    ]
    answer = () if rollout.request is None else (Answer(rollout.request, refused="it is being rolled back already"),)
    waiting = [node for node in behind if node.reachable and node.refusal is None]
    overdue = (now - rollout.last_progress).total_seconds() > rollout.plan.policy.progress_deadline_s
    if waiting and not overdue:
        return _wait(f"waiting for {names_words(waiting)} to confirm the old settings", (*answer, *marks))
    failed = [node for node in behind if node.reachable]
    if failed:
        why = "; ".join(
            f"{n.name} {f'refused: {n.refusal}' if n.refusal else 'did not answer in time'}" for n in failed
        )
        text = f"Rollback to revision {rollout.from_number} did not reach every node: {why}. They are tried again without end."
        move = Move(P.ROLLBACK_FAILED, EventKind.ROLLOUT_ROLLBACK_FAILED, text, Severity.ERROR, outcome=text)
        return _now((*answer, *marks, move))
    took_s = rollout.waited_s(now)
    text = f"Revision {rollout.from_number} is back on {len(rollout.touched) - len(behind)} nodes after {took_s:.1f} s"
    if behind:
        text += f"; {names_words(behind)} cannot be reached and gets it when it is back"
    return _now((*answer, *marks, Move(P.ROLLED_BACK, EventKind.ROLLOUT_ROLLED_BACK, text, Severity.WARNING)))


# Pieces of steps -------------------------------------------------------------------------------------------------------


def _arrived(rollout: RolloutSnapshot, nodes: tuple[NodeView, ...]) -> tuple[Action, ...]:
    """States that follow from what the nodes report."""
    marks: list[Action] = []
    for node in nodes:
        if not node.touched:
            continue
        if node.runs(rollout.to_hash):
            if node.state is not NodeState.APPLIED:
                marks.append(NodeMove(node.id, NodeState.APPLIED))
        elif not node.reachable and node.state is NodeState.DISPATCHED:
            marks.append(NodeMove(node.id, NodeState.UNREACHABLE, "no heartbeat; gets the settings when it is back"))
    return tuple(marks)


def _overdue(rollout: RolloutSnapshot, now: datetime, nodes: list[NodeView] | tuple[NodeView, ...]) -> Step | None:
    deadline_s = rollout.plan.policy.progress_deadline_s
    if (now - rollout.last_progress).total_seconds() <= deadline_s:
        return None
    late = [node for node in nodes if not node.runs(rollout.to_hash)]
    return _give_up(rollout, f"{names_words(late)} did not confirm the new settings within {deadline_s:g} s")


def _give_up(
    rollout: RolloutSnapshot,
    why: str,
    *,
    actor: str = "controller",
    answered: Verb | None = None,
    first: tuple[Action, ...] = (),
) -> Step:
    """Back to the old settings where new ones were sent, and just an end where none were."""
    answer = () if answered is None else (Answer(answered),)
    if not rollout.touched:
        text = f"Nothing was changed: {why}"
        move = Move(P.CANCELLED, EventKind.ROLLOUT_CANCELLED, text, Severity.WARNING, actor, outcome=text)
        return _now((*answer, *first, move))
    text = f"Rolling back to revision {rollout.from_number}: {why}"
    severity = Severity.WARNING if answered else Severity.ERROR
    outcome = f"Rolled back: {why}"
    move = Move(P.ROLLING_BACK, EventKind.ROLLOUT_ROLLING_BACK, text, severity, actor, outcome=outcome)
    ids = tuple(node.id for node in rollout.touched)
    return _now((*answer, *first, move, Dispatch(ids, back=True)))


def _promote(rollout: RolloutSnapshot, why: str, actor: str = "controller") -> tuple[Action, ...]:
    """To the first wave that is not through; to the bake where the canary was the whole pool."""
    step = max(1, rollout.step)
    following = rollout.wave(step)
    if not following:
        text = (
            f"No other node is left to change; watching for {rollout.plan.policy.bake_s:g} s, ready to roll back: {why}"
        )
        return (Move(P.BAKING, EventKind.ROLLOUT_BAKING, text, actor=actor),)
    waves = len(rollout.plan.waves)
    unsent = tuple(node.id for node in following if not node.touched)
    text = f"Wave {step} of {waves}, {names_words(following)}: {why}"
    move = Move(P.PROMOTING, EventKind.ROLLOUT_PROMOTING, text, actor=actor, step=step)
    return (move, Dispatch(unsent)) if unsent else (move,)


def _completed(rollout: RolloutSnapshot, why: str = "", actor: str = "controller") -> Move:
    there = [node for node in rollout.nodes if node.runs(rollout.to_hash)]
    text = f"Revision {rollout.to_number} is in force on {len(there)} of {len(rollout.nodes)} nodes"
    behind = [node for node in rollout.nodes if not node.runs(rollout.to_hash)]
    if behind:
        text += f"; {names_words(behind)} could not be reached and gets it when it is back"
    if why:
        text += f" ({why})"
    return Move(P.COMPLETED, EventKind.ROLLOUT_COMPLETED, text, actor=actor, outcome=text)


def _pause(rollout: RolloutSnapshot, by: PausedBy, why: str, actor: str = "controller") -> Move:
    severity = Severity.INFO if by is PausedBy.PERSON else Severity.WARNING
    return Move(
        P.PAUSED, EventKind.ROLLOUT_PAUSED, f"Paused: {why}", severity, actor, paused_from=rollout.phase, paused_by=by
    )


def _resume(rollout: RolloutSnapshot, why: str, actor: str = "controller") -> Move:
    assert rollout.paused_from is not None, f"rollout {rollout.id} is paused from nowhere"
    return Move(
        rollout.paused_from, EventKind.ROLLOUT_RESUMED, f"Resumed in {rollout.paused_from.value}: {why}", actor=actor
    )


def _now(actions: tuple[Action, ...]) -> Step:
    return Step(actions, 0.0, "there is something to do")


def _wait(why: str, actions: tuple[Action, ...] = ()) -> Step:
    return Step(actions, LOOK_AGAIN_S, why)


_PHASES = {
    P.VALIDATING: _validating,
    P.BASELINING: _baselining,
    P.CANARY: _canary,
    P.ANALYZING: _analyzing,
    P.PROMOTING: _promoting,
    P.BAKING: _baking,
    P.PAUSED: _paused,
}
