"""Which pools, nodes and revisions there are. Reads by id raise NotFound."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, select, tuple_
from sqlalchemy.orm import Session

from controlplane.errors import NotFound
from controlplane.fleets.models import Node, Pool, SettingsRevision


def get_pool(session: Session, pool_id: str) -> Pool:
    pool = session.get(Pool, pool_id)
    if pool is None:
        raise NotFound(f"there is no pool with id {pool_id!r}: GET /api/v1/pools lists them")
    return pool


def list_pools(session: Session, *, after: tuple[datetime, str] | None = None, limit: int | None = None) -> list[Pool]:
    """Oldest first. after: created_at and id of the last one that was seen."""
    query = select(Pool).order_by(Pool.created_at, Pool.id).limit(limit)
    if after is not None:
        query = query.where(tuple_(Pool.created_at, Pool.id) > after)
    return list(session.scalars(query))


def lock_pool(session: Session, pool_id: str) -> Pool:
    """The pool as it stands now, held against other writers until the transaction ends."""
    query = select(Pool).where(Pool.id == pool_id).with_for_update(of=Pool)
    pool = session.scalar(query.execution_options(populate_existing=True))
    return pool if pool is not None else get_pool(session, pool_id)


def get_node(session: Session, node_id: str) -> Node:
    node = session.get(Node, node_id)
    if node is None:
        raise NotFound(f"there is no node with id {node_id!r}: GET /api/v1/nodes lists them")
    return node


def lock_node(session: Session, node_id: str) -> Node:
    """The node as it stands now, held against other writers until the transaction ends."""
    query = select(Node).where(Node.id == node_id).with_for_update(of=Node)
    node = session.scalar(query.execution_options(populate_existing=True))
    return node if node is not None else get_node(session, node_id)


def lock_nodes(session: Session, node_ids: Sequence[str]) -> list[Node]:
    """`lock_node` of many, by id: every writer of several nodes takes them in this order, so that no two wait for each other."""
    query = select(Node).where(Node.id.in_(node_ids)).order_by(Node.id).with_for_update(of=Node)
    return list(session.scalars(query.execution_options(populate_existing=True)))


def list_nodes(
    session: Session, pool_id: str | None = None, *, after: tuple[str, str] | None = None, limit: int | None = None
) -> list[Node]:
    """Nodes of a pool, or of all, by name; removed ones are not among them. after: name and id of the last one that was seen."""
    query = select(Node).where(Node.is_there).order_by(Node.name, Node.id).limit(limit)
    if after is not None:
        query = query.where(tuple_(Node.name, Node.id) > after)
    if pool_id is not None:
        query = query.where(Node.pool_id == pool_id)
    return list(session.scalars(query))


def get_revision(session: Session, revision_id: str) -> SettingsRevision:
    revision = session.get(SettingsRevision, revision_id)
    if revision is None:
        raise NotFound(f"there is no settings revision with id {revision_id!r}: GET /api/v1/revisions lists them")
    return revision


def get_revisions(session: Session, revision_ids: Sequence[str]) -> dict[str, SettingsRevision]:
    """By id, in one query. Raises NotFound."""
    found = {
        row.id: row for row in session.scalars(select(SettingsRevision).where(SettingsRevision.id.in_(revision_ids)))
    }
    return {revision_id: found.get(revision_id) or get_revision(session, revision_id) for revision_id in revision_ids}


def list_revisions(
    session: Session, pool_id: str, *, limit: int, before_number: int | None = None
) -> list[SettingsRevision]:
    """Newest first, with numbers below `before_number`."""
    query = select(SettingsRevision).where(SettingsRevision.pool_id == pool_id)
    if before_number is not None:
        query = query.where(SettingsRevision.number < before_number)
    return list(session.scalars(query.order_by(SettingsRevision.number.desc()).limit(limit)))


def newest_numbers(session: Session, pool_id: str | None = None) -> dict[str, int]:
    """By pool, of all pools or of one: the number of its newest revision."""
    query = select(SettingsRevision.pool_id, func.max(SettingsRevision.number)).group_by(SettingsRevision.pool_id)
    if pool_id is not None:
        query = query.where(SettingsRevision.pool_id == pool_id)
    return {row[0]: row[1] for row in session.execute(query)}
