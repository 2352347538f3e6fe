"""Writes what `reconcile()` ordered: all of a step in one transaction, under the writer's epoch, or nothing."""

from datetime import datetime
from typing import Any, assert_never, cast

from sqlalchemy import CursorResult, select, update
from sqlalchemy.orm import Session

from controlplane.decisions.admission import bare_hash
from controlplane.errors import Conflict
from controlplane.events import service as events
from controlplane.events.kinds import EventKind, Severity
from controlplane.fleets import service as fleets
from controlplane.processes import shards
from controlplane.rollouts import in_flight, quarantine, service
from controlplane.rollouts.actions import Action, Answer, Dispatch, Move, NextWave, NodeMove, Note, Replan, Step
from controlplane.rollouts.analysis import Report, Verdict
from controlplane.rollouts.models import Analysis, Rollout, RolloutNode
from controlplane.rollouts.phases import NodeState, RolloutPhase, is_legal
from controlplane.rollouts.snapshot import RolloutSnapshot


class Overtaken(Conflict):
    """The rollout has moved since it was read: nothing was written."""

    title = "The rollout has moved"


def execute(session: Session, seen: RolloutSnapshot, step: Step, *, epoch: int, now: datetime) -> None:
    """Carries out `step`, which was worked out from `seen`. Raises Fenced for a deposed leader, Overtaken for an old snapshot."""
    if not step.actions:
        return
    shards.assert_leads(session, seen.pool_id, epoch)
    _compare_and_set(session, seen, epoch)
    rollout = session.get_one(Rollout, seen.id, populate_existing=True)
    # The move first, so that the timeline tells why before it tells what followed.
    for action in sorted(step.actions, key=lambda action: not isinstance(action, Note | Answer)):
        _carry_out(session, rollout, seen, action, epoch, now)
    session.flush()


def _compare_and_set(session: Session, seen: RolloutSnapshot, epoch: int) -> None:
    moved = session.execute(
        update(Rollout)
        .where(
            Rollout.id == seen.id,
            Rollout.version == seen.version,
            Rollout.phase == seen.phase.value,
            # What a person asked meanwhile comes first: a rollout must not end over an abort that was accepted.
            Rollout.request == (None if seen.request is None else seen.request.value),
        )
        .values(version=seen.version + 1, epoch=epoch)
        .execution_options(synchronize_session=False)
    )
    if cast("CursorResult[Any]", moved).rowcount != 1:
        raise Overtaken(f"rollout {seen.id} is no longer at version {seen.version} in {seen.phase.value}")


def _carry_out(
    session: Session, rollout: Rollout, seen: RolloutSnapshot, action: Action, epoch: int, now: datetime
) -> None:
    match action:
        case Move():
            _move(session, rollout, action, now)
            if seen.answers_at_stake and action.to.is_terminal:
                fleets.end_watches(session, seen.plan.canary)
        case NextWave():
            rollout.step = action.step
            _tell(session, rollout, EventKind.ROLLOUT_PROMOTING, action.message, now, data={"wave": action.step})
        case Dispatch():
            if seen.in_flight_free is not None and not seen.is_direct and not action.back:
                _hold_room(session, seen, len(action.node_ids))
            _dispatch(session, rollout, seen, action, epoch, now)
        case NodeMove():
            _mark(session, rollout, action, now)
        case Replan():
            service.replan(session, rollout, now)
        case Note():
            _note(session, rollout, action.report, now)
        case Answer():
            _answer(session, rollout, seen, action, now)
        case _:
            assert_never(action)


def _move(session: Session, rollout: Rollout, move: Move, now: datetime) -> None:
    source = RolloutPhase(rollout.phase)
    assert is_legal(source, move.to), f"{source} -> {move.to} is not in the table of moves"
    rollout.phase, rollout.phase_since = move.to.value, now
    if move.step is not None:
        rollout.step = move.step
    if move.outcome is not None:
        rollout.outcome = move.outcome
    rollout.paused_from = None if move.paused_from is None else move.paused_from.value
    rollout.paused_by = None if move.paused_by is None else move.paused_by.value
    rollout.paused_reason = move.message.removeprefix("Paused: ") if move.to is RolloutPhase.PAUSED else None
    data = {"from": source.value, "to": move.to.value}
    if move.to is RolloutPhase.COMPLETED:
        _settle(session, rollout)
    if move.to.is_terminal:
        rollout.active_pool_id, rollout.ended_at = None, now
        data |= _hashes("settings", session, rollout.to_revision_id)
        data |= _hashes("left", session, rollout.from_revision_id)
        data["mode"] = rollout.plan["mode"]
    _tell(session, rollout, move.kind, move.message, now, move.severity, move.actor, data)


def _settle(session: Session, rollout: Rollout) -> None:
    """The settings are the pool's from now on; and what the controller comes home to, if somebody else wished for them."""
    pool = fleets.get_pool(session, rollout.pool_id)
    pool.current_revision_id = rollout.to_revision_id
    # What the controller adopts of an edit at a node follows from no decision of its own.
    if not rollout.created_by.startswith(service.CONTROLLER) or rollout.decision_id is None:
        pool.home_revision_id = rollout.to_revision_id


def _hashes(name: str, session: Session, revision_id: str) -> dict[str, str]:
    """With the limit of the queue and without."""
    revision = fleets.get_revision(session, revision_id)
    bare = bare_hash(fleets.settings_of(revision))
    return {f"{name}_hash": revision.content_hash, f"{name}_bare_hash": bare}


def _hold_room(session: Session, seen: RolloutSnapshot, wanted: int) -> None:
    free = in_flight.hold(session, fleets.get_pool(session, seen.pool_id).fleet_id)
    if wanted > free:
        raise Overtaken(
            f"rollout {seen.id}: {wanted} nodes were to be sent settings, but others took the room in between"
        )


def _dispatch(
    session: Session, rollout: Rollout, seen: RolloutSnapshot, dispatch: Dispatch, epoch: int, now: datetime
) -> None:
    revision_id = rollout.from_revision_id if dispatch.back else rollout.to_revision_id
    revision = fleets.get_revision(session, revision_id)
    nodes = fleets.lock_nodes(session, dispatch.node_ids)
    generations = fleets.set_desired_of_all(session, nodes, revision, epoch=epoch, now=now, rollout_id=rollout.id)
    if seen.answers_at_stake and not dispatch.back:
        wanted = seen.plan.policy.served
        for node in nodes:
            if node.id in seen.plan.canary:
                most = max(wanted.min_sequences, wanted.max_sequences)
                fleets.watch_served(node, share=wanted.share, least=wanted.min_sequences, most=most)
    instances = {node.id: node.instance_id for node in nodes}
    for row in _rows(session, rollout, dispatch.node_ids):
        row.generation = generations[row.node_id]
        row.dispatched_at = now
        row.state = NodeState.REVERTING if dispatch.back else NodeState.DISPATCHED
        if not dispatch.back:
            row.instance_id, row.detail = instances[row.node_id], None


def _mark(session: Session, rollout: Rollout, mark: NodeMove, now: datetime) -> None:
    for row in _rows(session, rollout, (mark.node_id,)):
        row.state, row.detail = mark.state.value, mark.detail
        if mark.state is NodeState.APPLIED:
            row.applied_at = now
        if mark.state in {NodeState.QUARANTINED, NodeState.REJECTED}:
            quarantine.consider(session, rollout, row, mark, now)


def _note(session: Session, rollout: Rollout, report: Report, now: datetime) -> None:
    session.add(
        Analysis(
            rollout_id=rollout.id,
            at=now,
            verdict=report.verdict.value,
            explanation=report.explanation,
            measurements=report.measurements_json(),
        )
    )
    severity = Severity.INFO if report.verdict is Verdict.PASS else Severity.WARNING
    message = f"{report.verdict.value}: {report.explanation}"
    _tell(session, rollout, EventKind.ROLLOUT_ANALYSIS, message, now, severity, data={"verdict": report.verdict.value})


def _answer(session: Session, rollout: Rollout, seen: RolloutSnapshot, answer: Answer, now: datetime) -> None:
    """Clears the request that was met; one that came in meanwhile stays for the next step."""
    if rollout.request == answer.verb.value:
        rollout.request = rollout.request_actor = rollout.request_reason = None
    if answer.refused is not None:
        text = f"{seen.request_actor} asked to {answer.verb.value}: {answer.refused}"
        _tell(session, rollout, EventKind.ROLLOUT_REQUESTED, text, now, Severity.WARNING, seen.request_actor)


def _rows(session: Session, rollout: Rollout, node_ids: tuple[str, ...]) -> list[RolloutNode]:
    query = select(RolloutNode).where(RolloutNode.rollout_id == rollout.id, RolloutNode.node_id.in_(node_ids))
    return list(session.scalars(query.order_by(RolloutNode.id)))


def _tell(
    session: Session,
    rollout: Rollout,
    kind: EventKind,
    message: str,
    now: datetime,
    severity: Severity = Severity.INFO,
    actor: str = "controller",
    data: dict[str, Any] | None = None,
) -> None:
    events.record(
        session, kind=kind, message=message, at=now, severity=severity, actor=actor, pool_id=rollout.pool_id,
        rollout_id=rollout.id, decision_id=rollout.decision_id, data=data,
    )  # fmt: skip
