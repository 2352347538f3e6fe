"""What nodes report of themselves: heartbeats, acknowledgements, refusals, silence. Events are recorded for changes only."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy.orm import Session

from controlplane.errors import Unauthorized
from controlplane.events import service as events
from controlplane.events.kinds import EventKind
from controlplane.fleets.desired import current_revision, epoch_for, set_desired, settings_of
from controlplane.fleets.health import is_silent
from controlplane.fleets.inventory import list_nodes, lock_node
from controlplane.fleets.models import Node
from inference_node.contract.messages import (
    AckOutcome,
    Heartbeat,
    HeartbeatReply,
    RejectCode,
    SettingsAck,
    SettingsReject,
)
from inference_node.contract.served import ServedWatch
from inference_node.contract.settings import EngineSettings

# Refusals that say something of the order of messages, not of the settings in them.
_ORDER = {RejectCode.STALE_EPOCH, RejectCode.STALE_GENERATION}


def heartbeat(session: Session, node: Node, beat: Heartbeat, *, now: datetime) -> HeartbeatReply:
    """Takes in a heartbeat and says what is desired. Raises Unauthorized for a process that has not registered."""
    lock_node(session, node.id)  # first, since the next life of the node may be registering right now
    if beat.instance_id != node.instance_id:
        raise Unauthorized(f"node {node.name!r} was registered by another process since: register again")
    node.last_heartbeat_at = now
    node.state = beat.state
    node.running, node.waiting, node.kv_usage = beat.running, beat.waiting, beat.kv_usage
    if beat.step_profile is not None and beat.step_profile.cells:
        node.step_profile = beat.step_profile.model_dump(mode="json")
    if beat.quality is not None:
        node.capabilities = node.capabilities | {"quality": beat.quality.model_dump(mode="json")}
    if beat.served is not None and node.watch is not None and beat.served.generation == node.watch["generation"]:
        node.served = beat.served.model_dump(mode="json")
    note_recovery(session, node, now)
    if beat.observed_generation >= node.observed_generation:  # an acknowledgement may have overtaken this heartbeat
        note_applied(
            session, node, beat.observed_generation, beat.observed_epoch, beat.settings, beat.applied_step, now
        )
        node.observed_instance_id = beat.instance_id
        _note_drift(session, node, drifted=beat.drifted, now=now)
        node.edited = beat.drifted and beat.edited
        if beat.lapsed and beat.observed_generation == node.desired_generation and node.lease_s is not None:
            end_experiment(session, node, now)
    preparing = beat.preparing_generation
    node.preparing_generation = preparing if preparing is not None and preparing > node.observed_generation else None
    if beat.rejected_generation is not None:
        _note_rejected(session, node, beat.rejected_generation, beat.rejected_reason or "no reason given", now)
    is_new = node.desired_generation > node.observed_generation
    if node.observed_generation > node.desired_generation or (is_new and node.observed_epoch > node.desired_epoch):
        _catch_up(session, node, now)  # it would refuse what is desired as old
    session.flush()
    revision = node.desired_revision
    return HeartbeatReply(
        desired_generation=node.desired_generation,
        desired_hash=None if revision is None else revision.content_hash,
        watch=None if node.watch is None else ServedWatch.model_validate(node.watch),
    )


def record_ack(session: Session, node_id: str, ack: SettingsAck, now: datetime) -> None:
    """Takes in a node's answer to a push. An answer that a later one has overtaken changes nothing."""
    take_ack(session, lock_node(session, node_id), ack, now)
    session.flush()


def take_ack(session: Session, node: Node, ack: SettingsAck, now: datetime) -> None:
    """`record_ack` for a node that the caller holds (`lock_nodes`)."""
    if ack.outcome is AckOutcome.PREPARING:
        if ack.generation > node.observed_generation:
            node.preparing_generation = ack.generation
        return
    if ack.generation < node.observed_generation:
        return
    note_applied(session, node, ack.generation, ack.epoch, ack.settings, ack.applied_step, now)
    node.observed_instance_id = ack.instance_id
    if node.preparing_generation is not None and node.preparing_generation <= ack.generation:
        node.preparing_generation = None


def record_reject(session: Session, node_id: str, generation: int, reject: SettingsReject, now: datetime) -> None:
    """Takes in a node's refusal of a push.

    A refusal of the present wish is kept with its reason. One that shows that the node is ahead of SQL (the database was
    restored) leads to the same wish under a generation and epoch that the node has not seen. A conflict is the latter only
    where the node knows that generation by other settings: one that it could not apply would fail the same way again.
    """
    node = lock_node(session, node_id)
    if generation != node.desired_generation:
        return
    is_known_otherwise = reject.code is RejectCode.CONFLICT and reject.observed_generation >= generation
    if reject.code not in _ORDER and not is_known_otherwise:
        _note_rejected(session, node, generation, reject.message, now)
        session.flush()
        return
    node.observed_generation = max(node.observed_generation, reject.observed_generation)
    node.observed_epoch = max(node.observed_epoch, reject.observed_epoch)
    node_is_ahead = node.observed_generation > generation or node.observed_epoch > node.desired_epoch
    if node_is_ahead or is_known_otherwise:
        _catch_up(session, node, now)


def mark_unreachable(session: Session, *, now: datetime, timeout_s: float, pool_ids: Collection[str]) -> list[Node]:
    """Marks the nodes of these pools that have newly fallen silent, records `node.unreachable` for each, and returns them."""
    there = [node for pool_id in sorted(pool_ids) for node in list_nodes(session, pool_id)]
    newly = [node for node in there if node.unreachable_since is None and is_silent(node, now, timeout_s)]
    for node in newly:
        node.unreachable_since = now
        silent_s = (now - node.last_heartbeat_at).total_seconds()
        events.record(
            session, kind=EventKind.NODE_UNREACHABLE, severity="error", at=now, pool_id=node.pool_id, node_id=node.id,
            message=f"Node {node.name} has not been heard of for {silent_s:.0f} s", data={"silent_s": round(silent_s, 1)},
        )  # fmt: skip
    session.flush()
    return newly


def note_recovery(session: Session, node: Node, now: datetime) -> None:
    """Clears the mark of a node that is heard of again, and records `node.recovered` if it had been set."""
    if node.unreachable_since is None:
        return
    silent_s = (now - node.unreachable_since).total_seconds()
    node.unreachable_since = None
    events.record(
        session, kind=EventKind.NODE_RECOVERED, at=now, actor=f"node:{node.name}", pool_id=node.pool_id, node_id=node.id,
        message=f"Node {node.name} is back after {silent_s:.0f} s", data={"silent_s": round(silent_s, 1)},
    )  # fmt: skip


def note_applied(
    session: Session,
    node: Node,
    generation: int,
    epoch: int,
    settings: EngineSettings,
    applied_step: int | None,
    now: datetime,
) -> None:
    moved = generation > node.observed_generation
    before = EngineSettings.model_validate(node.observed_settings)
    node.observed_generation = generation
    node.observed_epoch = max(epoch, node.observed_epoch)
    node.observed_at = now
    if applied_step is not None:
        node.applied_step = applied_step
    if settings != before:
        node.observed_settings = settings.model_dump(mode="json")
        node.observed_hash = settings.content_hash()
    if not moved:
        return
    node.drifted, node.edited, node.refusals = False, False, 0
    if node.rejected_generation is not None and node.rejected_generation <= generation:
        node.rejected_generation = node.rejected_reason = None
    changes = before.changed(settings)
    words = ", ".join(f"{knob} {old} → {new}" for knob, (old, new) in changes.items()) or "nothing differs"
    events.record(
        session, kind=EventKind.NODE_SETTINGS_APPLIED, at=now, actor=f"node:{node.name}",
        message=f"Node {node.name} applied generation {generation}: {words}", pool_id=node.pool_id, node_id=node.id,
        data={"generation": generation, "epoch": epoch, "applied_step": node.applied_step,
              "changes": {knob: list(pair) for knob, pair in changes.items()}},
    )  # fmt: skip


def _note_drift(session: Session, node: Node, *, drifted: bool, now: datetime) -> None:
    if drifted and not node.drifted:
        wished = node.desired_revision
        here = EngineSettings.model_validate(node.observed_settings)
        differs = {} if wished is None else settings_of(wished).changed(here)
        words = ", ".join(f"{knob} {old} → {new}" for knob, (old, new) in differs.items()) or "see its settings"
        events.record(
            session, kind=EventKind.NODE_DRIFTED, severity="warning", at=now, actor=f"node:{node.name}",
            message=f"Settings of node {node.name} were changed on the node itself: {words}",
            pool_id=node.pool_id, node_id=node.id, data={"changes": {knob: list(p) for knob, p in differs.items()}},
        )  # fmt: skip
    node.drifted = drifted


def _note_rejected(session: Session, node: Node, generation: int, reason: str, now: datetime) -> None:
    """A refusal is told once: a heartbeat that was overtaken may still name the one before it, or one that SQL never wished."""
    if not max(node.observed_generation, node.rejected_generation or 0) < generation <= node.desired_generation:
        return
    node.rejected_generation, node.rejected_reason = generation, reason
    node.refusals += 1
    if node.preparing_generation == generation:
        node.preparing_generation = None
    events.record(
        session, kind=EventKind.NODE_SETTINGS_REJECTED, severity="error", at=now, actor=f"node:{node.name}",
        message=f"Node {node.name} refused generation {generation}: {reason}",
        pool_id=node.pool_id, node_id=node.id, data={"generation": generation, "reason": reason},
    )  # fmt: skip
    if node.lease_s is not None and generation == node.desired_generation:
        end_experiment(session, node, now)


def end_experiment(session: Session, node: Node, now: datetime) -> None:
    """The node shall have its pool's settings again: a wish that no controller need be there for."""
    set_desired(session, node, current_revision(session, node.pool), epoch=epoch_for(session, node), now=now)


def _catch_up(session: Session, node: Node, now: datetime) -> None:
    """SQL is behind the node: the same wish again, under numbers that the node has not seen. An experiment is not begun again."""
    revision = node.desired_revision
    if revision is None or node.lease_s is not None:
        revision = current_revision(session, node.pool)
    set_desired(session, node, revision, epoch=epoch_for(session, node), now=now)
