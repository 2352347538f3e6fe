"""Anti-entropy: what got lost on its way to a node is owed again, and a node outside its pool's settings is brought back.

Level-triggered: it compares what is desired with what is observed, afresh each time, and does not care how they came apart.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from controlplane.decisions.policy import OnDrift
from controlplane.events.models import OutboxItem
from controlplane.fleets import service as fleets
from controlplane.fleets.intake import read_intake
from controlplane.fleets.models import Node, Pool, SettingsRevision
from controlplane.processes import shards
from controlplane.processes.shards import Terms
from controlplane.rollouts import drift
from controlplane.rollouts.models import Rollout

PATIENCE_S = 5.0
# A repeated push of the same wish gets its own key once in so many seconds: a node that never agrees costs two rows a minute.
REPEAT_S = 30
# A refused wish is tried again after so long, after twice as long the next time, and so on.
AGAIN_S, AGAIN_MOST_S = 30.0, 900.0

# Nodes that may be behind or astray: of a fleet in order none, so that a large one costs no more than a small one.
_APART = (
    select(Node)
    .join(Pool, Pool.id == Node.pool_id)
    .outerjoin(SettingsRevision, SettingsRevision.id == Node.desired_revision_id)
    .where(
        Node.is_there,
        or_(
            Node.desired_revision_id.is_distinct_from(Pool.current_revision_id),
            Node.desired_generation != Node.observed_generation,
            SettingsRevision.content_hash != Node.observed_hash,
        ),
    )
    .order_by(Node.name, Node.id)
)


@dataclass(frozen=True, slots=True)
class Strays:
    """Ids of nodes: behind their wish, with another wish than their pool has, such as refused it a while ago, and such whose
    settings were edited there and shall become the pool's."""

    behind: tuple[str, ...]
    astray: tuple[str, ...]
    refused: tuple[str, ...] = ()
    edited: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.behind or self.astray or self.refused or self.edited)


def find_strays(session: Session, *, now: datetime, heartbeat_timeout_s: float, terms: Terms) -> Strays:
    """Those in the pools that `terms` lead. Reads only, so that a fleet in order costs no write."""
    busy = set(session.scalars(select(Rollout.active_pool_id).where(Rollout.active_pool_id.is_not(None))))
    intake = read_intake(session)
    behind: list[Node] = []
    astray: list[Node] = []
    refused: list[Node] = []
    edited: list[Node] = []
    for node in session.scalars(_APART):
        if terms.of(node.pool_id) is None:
            continue
        if fleets.is_quarantined(node, now):
            continue  # it keeps what it has until it is released
        if _in_experiment(node, now):
            if _is_behind(node, now) and not intake.is_lost(node, heartbeat_timeout_s):
                behind.append(node)
        elif (kept := drift.kept_as(session, node)) is not OnDrift.REASSERT:
            if kept is OnDrift.ADOPT and node.pool_id not in busy and node.pool.frozen_at is None:
                edited.append(node)
        elif node.pool_id not in busy and node.desired_revision_id != node.pool.current_revision_id:
            astray.append(node)
        elif node.pool_id not in busy and _may_try_again(node, now) and not intake.is_lost(node, heartbeat_timeout_s):
            refused.append(node)
        elif _is_behind(node, now) and not intake.is_lost(node, heartbeat_timeout_s):
            behind.append(node)
    return Strays(_ids(behind), _ids(astray), _ids(refused), _ids(edited))


def converge(session: Session, strays: Strays, *, terms: Terms, now: datetime) -> int:
    """Owes what is missing; returns how much. Raises Fenced for a deposed leader."""
    everyone = (*strays.behind, *strays.astray, *strays.refused, *strays.edited)
    pool_ids = session.scalars(select(Node.pool_id).where(Node.id.in_(everyone)).distinct())
    shards.assert_leads_all(session, terms, pool_ids)
    owed = 0
    for node_id in sorted((*strays.astray, *strays.refused)):
        node = fleets.get_node(session, node_id)
        target = fleets.current_revision(session, node.pool)
        busy = select(Rollout.id).where(Rollout.active_pool_id == node.pool_id)
        epoch = terms.of(node.pool_id)
        if _in_experiment(node, now):  # begun meanwhile
            continue
        is_due = node.desired_revision_id != target.id or _may_try_again(node, now)
        if epoch is not None and is_due and session.scalar(busy) is None:  # one may have begun meanwhile
            fleets.set_desired(session, node, target, epoch=epoch, now=now)
            owed += 1
    for node_id in sorted(strays.edited):
        node = fleets.get_node(session, node_id)
        epoch = terms.of(node.pool_id)
        if epoch is not None and drift.kept_as(session, node) is OnDrift.ADOPT:
            owed += drift.adopt(session, node, epoch=epoch, now=now) is not None
    for node_id in sorted(strays.behind):
        node = fleets.get_node(session, node_id)
        again = str(int(now.timestamp()) // REPEAT_S)
        if _is_behind(node, now) and not _is_owed(session, node, again):
            fleets.owe_push(session, node, now=now, again=again)
            owed += 1
    return owed


def _ids(nodes: list[Node]) -> tuple[str, ...]:
    return tuple(node.id for node in nodes)


def _in_experiment(node: Node, now: datetime) -> bool:
    """Whether it has other settings than its pool on purpose, for as long as the lease lasts."""
    ends_at = fleets.experiment_ends_at(node)
    return ends_at is not None and now < ends_at


def _may_try_again(node: Node, now: datetime) -> bool:
    """Whether what it refused may be wished for anew, under another generation: memory that it had not then, it may have now."""
    if node.rejected_generation != node.desired_generation or node.desired_since is None:
        return False
    pause_s = min(AGAIN_MOST_S, AGAIN_S * 2.0 ** max(0, node.refusals - 1))
    return (now - node.desired_since).total_seconds() > pause_s


def _is_behind(node: Node, now: datetime) -> bool:
    """Behind its wish for longer than a push takes, and neither preparing it nor having refused it."""
    if fleets.in_sync(node) or node.desired_since is None:
        return False
    if node.rejected_generation == node.desired_generation or node.preparing_generation == node.desired_generation:
        return False
    return (now - node.desired_since).total_seconds() > PATIENCE_S


def _is_owed(session: Session, node: Node, again: str) -> bool:
    """Whether a push of the present wish is still open: the relay publishes that one until it is done. Or was owed just now."""
    key = f"push:{node.id}:{node.desired_generation}"
    is_open = OutboxItem.done_at.is_(None) & OutboxItem.dead_at.is_(None)
    is_first_or_repeated = (OutboxItem.key == key) | OutboxItem.key.startswith(f"{key}:")
    query = select(OutboxItem.id).where((is_open & is_first_or_repeated) | (OutboxItem.key == f"{key}:{again}"))
    return session.scalars(query.limit(1)).first() is not None
