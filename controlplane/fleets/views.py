"""Nodes and pools as they are shown: rows without the machinery of objects, with documents that were checked once.

A page of two hundred nodes as objects costs the API five times what the database takes for it, and their documents are mostly
the same: hardware, capabilities and settings of machines of one kind.
"""

import functools
from collections.abc import Collection
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel
from sqlalchemy import Select, Text, bindparam, cast, select, tuple_
from sqlalchemy.orm import Session

from controlplane.db import table_of
from controlplane.fleets.models import Node, Pool, SettingsRevision
from inference_node.contract.messages import NodeCapabilities, NodeHardware
from inference_node.contract.settings import EngineSettings

M = TypeVar("M", bound=BaseModel)

_NODE, _POOL, _REVISION = (table_of(model).c for model in (Node, Pool, SettingsRevision))
_DOCUMENTS: dict[str, type[BaseModel]] = {
    "capabilities": NodeCapabilities,
    "hardware": NodeHardware,
    "observed_settings": EngineSettings,
}


class PoolView(NamedTuple):
    """Of a node's pool."""

    name: str
    model: str


class RevisionView(NamedTuple):
    """A revision of settings. id: empty where nobody asks for it."""

    number: int
    content_hash: str
    settings: EngineSettings
    id: str = ""


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node's row for reading, with the attributes of `Node` that people are shown: columns, documents, and what is joined."""

    id: str
    pool_id: str
    name: str
    url: str
    version: str
    registered_at: datetime
    started_at: datetime
    state: str
    last_heartbeat_at: datetime
    running: int
    waiting: int
    kv_usage: float
    desired_generation: int
    desired_epoch: int
    desired_since: datetime | None
    lease_s: float | None
    observed_generation: int
    observed_epoch: int
    observed_hash: str
    observed_at: datetime
    applied_step: int
    preparing_generation: int | None
    rejected_generation: int | None
    rejected_reason: str | None
    drifted: bool
    quarantined_until: datetime | None
    quarantined_reason: str | None
    capabilities: NodeCapabilities
    hardware: NodeHardware
    observed_settings: EngineSettings
    pool: PoolView
    desired_revision: RevisionView | None


_PLAIN = tuple(each.name for each in fields(NodeView) if each.name in _NODE and each.name not in _DOCUMENTS)


class Standing(NamedTuple):
    """What tells a node's health and whether it is in sync."""

    pool_id: str
    state: str
    last_heartbeat_at: datetime
    desired_generation: int
    observed_generation: int
    observed_hash: str
    desired_hash: str | None


def list_views(
    session: Session, pool_id: str | None = None, *, after: tuple[str, str] | None = None, limit: int | None = None
) -> list[NodeView]:
    """As `inventory.list_nodes`, for reading."""
    query = _views().order_by(_NODE.name, _NODE.id).limit(limit)
    if after is not None:
        query = query.where(tuple_(_NODE.name, _NODE.id) > after)
    if pool_id is not None:
        query = query.where(_NODE.pool_id == pool_id)
    return [_view(row) for row in session.execute(query)]


def revisions_by_id(session: Session, revision_ids: Collection[str]) -> dict[str, RevisionView]:
    """Those that there are, in one query."""
    rows = session.execute(_revisions(), {"ids": list(revision_ids)})
    return {
        revision_id: RevisionView(number, content_hash, _document(EngineSettings, settings), revision_id)
        for revision_id, number, content_hash, settings in rows
    }


def standings(session: Session, pool_ids: Collection[str]) -> dict[str, list[Standing]]:
    """By pool, in one query."""
    found: dict[str, list[Standing]] = {}
    for row in session.execute(_standings(), {"pools": list(pool_ids)}):
        found.setdefault(row.pool_id, []).append(Standing(*row))
    return found


@functools.cache
def _views() -> Select[Any]:
    plain = (_NODE[name] for name in _PLAIN)
    texts = (cast(_NODE[name], Text) for name in _DOCUMENTS)
    revision = (_REVISION.number, _REVISION.content_hash, cast(_REVISION.settings, Text))
    return (
        select(*plain, *texts, _POOL.name, _POOL.model, *revision)
        .join_from(table_of(Node), table_of(Pool), _POOL.id == _NODE.pool_id)
        .outerjoin(table_of(SettingsRevision), _REVISION.id == _NODE.desired_revision_id)
        .where(_NODE.removed_at.is_(None))
    )


@functools.cache
def _revisions() -> Select[Any]:
    columns = (_REVISION.id, _REVISION.number, _REVISION.content_hash, cast(_REVISION.settings, Text))
    return select(*columns).where(_REVISION.id.in_(bindparam("ids", expanding=True)))


@functools.cache
def _standings() -> Select[Any]:
    columns = (_NODE[name] for name in Standing._fields[:-1])
    return (
        select(*columns, _REVISION.content_hash)
        .outerjoin_from(table_of(Node), table_of(SettingsRevision), _REVISION.id == _NODE.desired_revision_id)
        .where(_NODE.removed_at.is_(None), _NODE.pool_id.in_(bindparam("pools", expanding=True)))
    )


def _view(row: Any) -> NodeView:
    values = tuple(row)
    documents = len(_PLAIN)
    rest = documents + len(_DOCUMENTS)
    checked = (_document(model, text) for model, text in zip(_DOCUMENTS.values(), values[documents:rest], strict=True))
    pool_name, pool_model, number, content_hash, settings = values[rest:]
    revision = None if number is None else RevisionView(number, content_hash, _document(EngineSettings, settings))
    given: list[Any] = [*values[:documents], *checked, PoolView(pool_name, pool_model), revision]
    return NodeView(*given)


@functools.lru_cache(maxsize=4096)
def _document(model: type[M], text: str) -> M:
    return model.model_validate_json(text)
