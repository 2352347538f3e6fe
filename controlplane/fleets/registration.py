"""A node joins, or comes back: the same (fleet, pool, name) is the same node, whatever process is behind it."""

from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.accounts.secrets import NODE_TOKEN, hash_secret, new_secret
from controlplane.db import insert_if_absent
from controlplane.errors import Conflict, Invalid
from controlplane.events import service as events
from controlplane.events.kinds import EventKind
from controlplane.fleets.desired import create_revision, current_revision, epoch_for, owe_push, set_desired
from controlplane.fleets.models import Fleet, Node, Pool
from controlplane.fleets.observed import note_applied, note_recovery
from controlplane.ids import new_id
from inference_node.contract.messages import NodeRegistration, NodeState


class ModelMismatch(Conflict):
    title = "The pool serves another model"


@dataclass(frozen=True, slots=True)
class Registered:
    """`token` is the node's credential from now on; only its hash is kept. `same_process`: it had registered before."""

    node: Node
    token: str
    same_process: bool


def register_node(session: Session, registration: NodeRegistration, *, now: datetime) -> Registered:
    """Enters a node, or the next life of one that is known, and makes it want what its pool wants.

    The first node of a pool creates it (and its fleet), with its own settings as revision 1. Raises ModelMismatch, Invalid.
    """
    _check_url(registration.url)
    pool = _pool_for(session, registration, now)
    known = select(Node).where(Node.pool_id == pool.id, Node.name == registration.name)
    node = session.scalar(known.with_for_update(of=Node))
    token = new_secret(NODE_TOKEN)
    same_process = node is not None and node.instance_id == registration.instance_id
    if node is None:
        node = _add(session, pool, registration, token, now)
        message = f"Node {node.name} joined pool {pool.name} at {node.url}"
        events.record(
            session, kind=EventKind.NODE_REGISTERED, message=message, at=now, actor=f"node:{node.name}",
            pool_id=pool.id, node_id=node.id, data={"url": node.url, "version": node.version, "model": pool.model},
        )  # fmt: skip
    else:
        _take_over(session, node, registration, token, now)
    _start_from_desired(session, node, pool, now)
    session.flush()
    return Registered(node, token, same_process)


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        wrong = parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0
    except ValueError:  # brackets that do not close, a port that is no number or too large
        wrong = True
    if wrong or parts.username or parts.query or parts.fragment:
        raise Invalid(
            f"url {url!r} is no base address of a node: give scheme, host and port, for example http://10.0.0.7:8701"
        )


def _pool_for(session: Session, registration: NodeRegistration, now: datetime) -> Pool:
    """The pool, made if need be, and locked so that two first nodes do not both believe to be first."""
    insert_if_absent(session, Fleet, id=new_id(), name=registration.fleet, created_at=now)
    fleet_id = session.scalars(select(Fleet.id).where(Fleet.name == registration.fleet)).one()
    created = insert_if_absent(
        session,
        Pool,
        id=new_id(),
        fleet_id=fleet_id,
        name=registration.pool,
        model=registration.model,
        created_at=now,
    )
    query = select(Pool).where(Pool.fleet_id == fleet_id, Pool.name == registration.pool)
    pool = session.scalars(query.with_for_update(of=Pool)).one()
    if pool.model != registration.model:
        raise ModelMismatch(
            f"node {registration.name!r} serves model {registration.model!r}, but pool {pool.name!r} serves {pool.model!r}: "
            f"start the node with --model {pool.model}, or give it a pool of its own",
            node_model=registration.model,
            pool_model=pool.model,
        )
    if created:
        message = f"Pool {pool.name} of fleet {registration.fleet} was created for model {pool.model}"
        events.record(session, kind=EventKind.POOL_CREATED, message=message, at=now, pool_id=pool.id)
    return pool


def _add(session: Session, pool: Pool, registration: NodeRegistration, token: str, now: datetime) -> Node:
    if pool.current_revision_id is None:
        revision = create_revision(
            session,
            pool,
            registration.settings,
            created_by=f"node:{registration.name}",
            reason="settings of the pool's first node",
            now=now,
        )
        pool.current_revision_id = pool.home_revision_id = revision.id
    node = Node(id=new_id(), pool_id=pool.id, name=registration.name, desired_generation=0, desired_epoch=0)
    node.registered_at = node.started_at = now
    node.step_profile = registration.step_profile.model_dump(mode="json")
    _describe(node, registration, token, now)
    _observe(node, registration, now)
    session.add(node)
    session.flush()
    session.refresh(node)
    return node


def _take_over(session: Session, node: Node, registration: NodeRegistration, token: str, now: datetime) -> None:
    if node.instance_id != registration.instance_id:
        moved = "" if node.url == registration.url else f", now at {registration.url}"
        events.record(
            session, kind=EventKind.NODE_RESTARTED, message=f"Node {node.name} restarted{moved}", at=now,
            severity="warning", actor=f"node:{node.name}", pool_id=node.pool_id, node_id=node.id,
            data={"from_generation": node.observed_generation, "to_generation": registration.observed_generation},
        )  # fmt: skip
        node.started_at = now
    if (
        registration.observed_generation > node.observed_generation
    ):  # applied by the life before, which could not say so
        note_applied(
            session,
            node,
            registration.observed_generation,
            registration.observed_epoch,
            registration.settings,
            None,
            now,
        )
    _describe(node, registration, token, now)
    _observe(node, registration, now)
    note_recovery(session, node, now)
    session.flush()


def _describe(node: Node, registration: NodeRegistration, token: str, now: datetime) -> None:
    node.url = registration.url.rstrip("/")
    node.admin_token = registration.admin_token
    node.token_hash = hash_secret(token)
    node.instance_id = registration.instance_id
    node.version = registration.version
    node.capabilities = registration.capabilities.model_dump(mode="json")
    node.hardware = registration.hardware.model_dump(mode="json")
    if registration.step_profile.cells:  # a node that skipped its probe keeps what is known of it
        node.step_profile = registration.step_profile.model_dump(mode="json")
    node.state = NodeState.STARTING
    node.last_heartbeat_at = now
    node.removed_at = None  # it had been removed, and here it is again


def _observe(node: Node, registration: NodeRegistration, now: datetime) -> None:
    """A new process may honestly be behind what the one before it reported: its own word counts, also downwards.

    Not below what it has said itself: it may have answered a push after it had sent this registration.
    """
    if node.observed_instance_id == registration.instance_id:
        if registration.observed_generation < node.observed_generation:
            return
    else:
        node.observed_instance_id = registration.instance_id
    node.observed_generation = registration.observed_generation
    node.observed_epoch = registration.observed_epoch
    node.observed_settings = registration.settings.model_dump(mode="json")
    node.observed_hash = registration.settings.content_hash()
    node.observed_at = now
    node.applied_step = 0
    node.preparing_generation = None
    node.drifted = node.edited = False


def _start_from_desired(session: Session, node: Node, pool: Pool, now: datetime) -> None:
    """Behind: what is desired is owed again. Level, or ahead of SQL (a restored database): a wish above what it has seen."""
    if node.lease_s is not None:  # an experiment ends with the process that it was made on, at the latest
        set_desired(session, node, current_revision(session, pool), epoch=epoch_for(session, node), now=now)
        return
    target = node.desired_revision or current_revision(session, pool)
    epoch = epoch_for(session, node)
    if node.desired_generation > node.observed_generation and node.desired_epoch >= node.observed_epoch:
        owe_push(session, node, now=now, again=node.instance_id)
    elif node.desired_generation <= node.observed_generation and target.content_hash == node.observed_hash:
        node.desired_generation = node.observed_generation
        node.desired_epoch = max(node.desired_epoch, node.observed_epoch)
        node.desired_revision_id = target.id
        node.desired_since = node.desired_since or now
        session.flush()
        session.refresh(node, ["desired_revision"])
    else:
        set_desired(session, node, target, epoch=epoch, now=now)
