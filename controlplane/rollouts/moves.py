"""Pieces that the steps of `reconcile()` are made of: a move with its event, what a node's report means, waiting. Pure."""

from collections.abc import Iterable
from datetime import datetime

from controlplane.events.kinds import EventKind, Severity
from controlplane.rollouts.actions import Action, Answer, Dispatch, Move, NodeMove, Step
from controlplane.rollouts.phases import NodeState, PausedBy, RolloutPhase, Verb
from controlplane.rollouts.snapshot import NodeView, RolloutSnapshot
from controlplane.rollouts.words import names_words

P = RolloutPhase
LOOK_AGAIN_S = 1.0


def arrived(rollout: RolloutSnapshot, nodes: tuple[NodeView, ...]) -> tuple[Action, ...]:
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


def overdue(rollout: RolloutSnapshot, now: datetime, nodes: list[NodeView] | tuple[NodeView, ...]) -> Step | None:
    """Gives up when nothing has moved for as long as the plan allows."""
    deadline_s = rollout.plan.policy.progress_deadline_s
    if (now - rollout.last_progress).total_seconds() <= deadline_s:
        return None
    late = [node for node in nodes if node.touched and not node.runs(rollout.to_hash)]
    return give_up(rollout, f"{names_words(late)} did not confirm the new settings within {deadline_s:g} s")


def give_up(
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
        return now_do((*answer, *first, move))
    text = f"Rolling back to revision {rollout.from_number}: {why}"
    severity = Severity.WARNING if answered else Severity.ERROR
    outcome = f"Rolled back: {why}"
    move = Move(P.ROLLING_BACK, EventKind.ROLLOUT_ROLLING_BACK, text, severity, actor, outcome=outcome)
    ids = tuple(node.id for node in rollout.touched)
    return now_do((*answer, *first, move, Dispatch(ids, back=True)))


def promote(rollout: RolloutSnapshot, why: str, actor: str = "controller") -> tuple[Action, ...]:
    """To the first wave that is not through; to the bake where the canary was the whole pool."""
    step = max(1, rollout.step)
    following = tuple(node for node in rollout.wave(step) if not node.left_out)
    if not following and step >= len(rollout.plan.waves):
        text = (
            f"No other node is left to change; watching for {rollout.plan.policy.bake_s:g} s, ready to roll back: {why}"
        )
        return (Move(P.BAKING, EventKind.ROLLOUT_BAKING, text, actor=actor),)
    waves = len(rollout.plan.waves)
    unsent = sendable(rollout, following)
    text = f"Wave {step} of {waves}, {names_words(following)}: {why}"
    move = Move(P.PROMOTING, EventKind.ROLLOUT_PROMOTING, text, actor=actor, step=step)
    return (move, Dispatch(unsent)) if unsent else (move,)


def sendable(rollout: RolloutSnapshot, nodes: Iterable[NodeView]) -> tuple[str, ...]:
    """Those of `nodes` that are still to be sent the new settings and may be: no more than the fleet allows at once."""
    unsent = tuple(node.id for node in nodes if not node.touched and not node.left_out)
    free = len(unsent) if rollout.in_flight_free is None or rollout.is_direct else rollout.in_flight_free
    return unsent[:free]


def completed(rollout: RolloutSnapshot, why: str = "", actor: str = "controller") -> Move:
    """The good end. A node that could not be reached is named; anti-entropy brings it along."""
    there = [node for node in rollout.nodes if node.runs(rollout.to_hash)]
    text = f"Revision {rollout.to_number} is in force on {len(there)} of {len(rollout.nodes)} nodes"
    left_out = [node for node in rollout.nodes if node.left_out]
    behind = [node for node in rollout.nodes if not node.runs(rollout.to_hash) and not node.left_out]
    if behind:
        text += f"; {names_words(behind)} could not be reached and gets it when it is back"
    if left_out:
        text += f"; {names_words(left_out)} is in quarantine and gets it when it is released"
    if why:
        text += f" ({why})"
    return Move(P.COMPLETED, EventKind.ROLLOUT_COMPLETED, text, actor=actor, outcome=text)


def pause(rollout: RolloutSnapshot, by: PausedBy, why: str, actor: str = "controller") -> Move:
    """Waits here for what `by` names."""
    severity = Severity.INFO if by is PausedBy.PERSON else Severity.WARNING
    return Move(
        P.PAUSED, EventKind.ROLLOUT_PAUSED, f"Paused: {why}", severity, actor, paused_from=rollout.phase, paused_by=by
    )


def resume(rollout: RolloutSnapshot, why: str, actor: str = "controller") -> Move:
    """Back to the phase that the pause began in."""
    assert rollout.paused_from is not None, f"rollout {rollout.id} is paused from nowhere"
    return Move(
        rollout.paused_from, EventKind.ROLLOUT_RESUMED, f"Resumed in {rollout.paused_from.value}: {why}", actor=actor
    )


def now_do(actions: tuple[Action, ...]) -> Step:
    """Something to do; look again at once."""
    return Step(actions, 0.0, "there is something to do")


def wait(why: str, actions: tuple[Action, ...] = ()) -> Step:
    """Nothing but marks to write; `why` names what is waited for."""
    return Step(actions, LOOK_AGAIN_S, why)
