"""What is wished for: a pool's revisions, and for each node a wish under a generation that only grows."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.events import service as events
from controlplane.events.kinds import EventKind
from controlplane.fleets.inventory import get_revision, list_revisions
from controlplane.fleets.models import Node, Pool, SettingsRevision
from controlplane.fleets.views import NodeView
from controlplane.processes import lease, shards
from inference_node.contract.messages import SettingsPush
from inference_node.contract.served import ServedWatch
from inference_node.contract.settings import EngineSettings
from inference_node.contract.signing import signed

# `created_by` of settings that the controller only tries out on a node. Nobody wished for them on the pool, so they are never the
# revision that somebody does wish for, though they be the same.
EXPLORER = "controller:exploration"


def current_revision(session: Session, pool: Pool) -> SettingsRevision:
    """What a new node of the pool gets. Every pool has one from the moment that its first node joined."""
    assert pool.current_revision_id is not None, f"pool {pool.id} without a current revision"
    return get_revision(session, pool.current_revision_id)


def settings_of(revision: SettingsRevision) -> EngineSettings:
    return EngineSettings.model_validate(revision.settings)


def create_revision(
    session: Session, pool: Pool, settings: EngineSettings, *, created_by: str, reason: str, now: datetime
) -> SettingsRevision:
    """The pool's next revision; the latest one again if it holds the same settings, and is not merely being tried out."""
    session.execute(select(Pool.id).where(Pool.id == pool.id).with_for_update())  # one number at a time
    latest = next(iter(list_revisions(session, pool.id, limit=1)), None)
    content_hash = settings.content_hash()
    is_same = latest is not None and latest.content_hash == content_hash
    if latest is not None and is_same and (latest.created_by == created_by or latest.created_by != EXPLORER):
        return latest
    revision = SettingsRevision(
        pool_id=pool.id,
        number=1 if latest is None else latest.number + 1,
        settings=settings.model_dump(mode="json"),
        content_hash=content_hash,
        created_by=created_by,
        reason=reason,
        created_at=now,
    )
    session.add(revision)
    session.flush()
    return revision


def set_desired(
    session: Session,
    node: Node,
    revision: SettingsRevision,
    *,
    epoch: int,
    now: datetime,
    rollout_id: str | None = None,
    lease_s: float | None = None,
) -> int:
    """Wishes a revision for the node under a fresh generation, which is returned, and owes the push.

    With `lease_s` it is an experiment, which the node ends by itself; any other wish ends one. The generation is above all
    that was wished for or seen of this node, so that the node never takes it for an old one.
    """
    generations = select(Node.desired_generation, Node.observed_generation).where(Node.id == node.id)
    desired, observed = session.execute(generations.with_for_update()).one()
    _note_experiment_over(session, node, now)
    node.lease_s = lease_s
    node.watch = node.served = None
    node.desired_generation = max(desired, observed) + 1
    node.desired_epoch = epoch
    node.desired_revision_id = revision.id
    node.desired_since = now
    session.flush()
    session.refresh(node, ["desired_revision"])
    owe_push(session, node, now=now, rollout_id=rollout_id)
    return node.desired_generation


def set_desired_of_all(
    session: Session,
    nodes: Sequence[Node],
    revision: SettingsRevision,
    *,
    epoch: int,
    now: datetime,
    rollout_id: str | None = None,
) -> dict[str, int]:
    """`set_desired` for many nodes in a few statements. `nodes` are held by the caller (`lock_nodes`). Generations by node id."""
    owed: dict[str, dict[str, Any]] = {}
    for node in nodes:
        _note_experiment_over(session, node, now)
        node.lease_s = node.watch = node.served = None
        node.desired_generation = max(node.desired_generation, node.observed_generation) + 1
        node.desired_epoch, node.desired_since = epoch, now
        node.desired_revision = revision
        owed[_push_key(node)] = _push_payload(node, rollout_id)
    session.flush()
    events.owe_all(session, kind="push", payloads=owed, at=now)
    return {node.id: node.desired_generation for node in nodes}


def watch_served(node: Node, *, share: float, least: int, most: int) -> None:
    """Asks the node to score a share of what it serves under its present wish against full precision, until the next wish."""
    watch = ServedWatch(generation=node.desired_generation, share=share, least=least, most=most)
    node.watch, node.served = watch.model_dump(mode="json"), None


def end_watches(session: Session, node_ids: Sequence[str]) -> None:
    """Nobody needs to know any more how good what these nodes serve is."""
    for node in session.scalars(select(Node).where(Node.id.in_(node_ids)).order_by(Node.id)):
        if node.watch is not None:
            node.watch = node.served = None


def experiment_ends_at(node: Node | NodeView) -> datetime | None:
    """When the lease of the node's experiment is over by the control plane's clock; None without one.

    The node counts from when it applied it, which is later; that it goes back is asked for at the earlier time.
    """
    if node.lease_s is None or node.desired_since is None:
        return None
    return node.desired_since + timedelta(seconds=node.lease_s)


def _note_experiment_over(session: Session, node: Node, now: datetime) -> None:
    if node.lease_s is None or node.desired_revision is None:
        return
    number = node.desired_revision.number
    lasted_s = 0.0 if node.desired_since is None else (now - node.desired_since).total_seconds()
    events.record(
        session, kind=EventKind.NODE_EXPERIMENT_ENDED, at=now, pool_id=node.pool_id, node_id=node.id,
        message=f"The experiment with revision {number} on node {node.name} is over after {lasted_s:.0f} s",
        data={"revision": number, "lasted_s": round(lasted_s, 1), "lease_s": node.lease_s},
    )  # fmt: skip


def owe_push(
    session: Session, node: Node, *, now: datetime, rollout_id: str | None = None, again: str | None = None
) -> None:
    """Owes the push of the node's present wish. `again` tells a repetition from the first one: another key, another debt."""
    key = _push_key(node) if again is None else f"{_push_key(node)}:{again}"
    events.owe(session, kind="push", key=key, payload=_push_payload(node, rollout_id), at=now)


def _push_key(node: Node) -> str:
    return f"push:{node.id}:{node.desired_generation}"


def _push_payload(node: Node, rollout_id: str | None) -> dict[str, Any]:
    return {
        "node_id": node.id,
        "generation": node.desired_generation,
        "epoch": node.desired_epoch,
        "rollout_id": rollout_id,
    }


def desired_push(session: Session, node: Node) -> SettingsPush | None:
    """The document that the node should have by now, signed for it; None while nothing was ever wished for it."""
    revision = node.desired_revision
    if revision is None or node.desired_generation < 1:
        return None
    document = SettingsPush(
        node_id=node.id,
        generation=node.desired_generation,
        epoch=node.desired_epoch,
        revision=revision.number,
        config_hash=revision.content_hash,
        settings=settings_of(revision),
        lease_s=node.lease_s,
        fallback=None if node.lease_s is None else settings_of(current_revision(session, node.pool)),
        issued_at=node.desired_since or revision.created_at,
    )
    return signed(document, node.admin_token)


def epoch_for(session: Session, node: Node) -> int:
    """The epoch for a wish that no controller makes (a node joins or comes back): the present one, which the node has
    not passed. Where it has, because SQL was restored or lost, the lease's epoch is raised above it for all."""
    epoch = shards.epoch_of(session, node.pool_id)
    if node.observed_epoch <= epoch:
        return epoch
    return lease.raise_epoch(session, shards.lease_of(node.pool_id), above=node.observed_epoch)
