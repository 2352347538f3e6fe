"""A handful of nodes, one push each. Told the outbox rows only; what is wished by now is read from SQL.

Many at once, since a change of a whole fleet would else cost three transactions a node: one claims them all, the nodes are
asked side by side, and whatever has answered meanwhile is written together. A silent node holds up no answer of another.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

import structlog
from sqlalchemy import select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from controlplane.db import session_scope
from controlplane.events import outbox
from controlplane.events.models import OutboxItem
from controlplane.fleets import service as fleets
from controlplane.fleets.models import Node
from controlplane.fleets.node_client import NodeClient, NodeRejected, NodeUnreachable
from inference_node.contract.messages import SettingsAck, SettingsPush, SettingsReject
from workers.context import WorkerContext

log = structlog.get_logger()

# What one task takes: all its nodes are asked at once, so it lasts no longer than the most silent of them.
MOST_AT_ONCE = 32
# Answers that come within this time of the first one share its transaction.
_GATHER_S = 0.02

FETCHED = "the node has fetched it by itself"
OVERTAKEN = "overtaken by a newer wish"

Answer = SettingsAck | SettingsReject | NodeUnreachable


@dataclass(frozen=True, slots=True)
class _Errand:
    """A debt that is ours now, and what its node is to be told."""

    item_id: int
    name: str
    url: str
    admin_token: str
    document: SettingsPush


def push(context: WorkerContext, item_ids: Sequence[int]) -> None:
    """Brings each node's wish to it and its answer to SQL. Harmless when repeated, overtaken, or run twice at once.

    The calls to the nodes lie between two transactions. Dying in between leaves rows claimed; they are due again when the
    claim runs out, and a node answers the same generation with `unchanged`.
    """
    errands = _claim(context, item_ids)
    if not errands:
        return
    with (
        NodeClient(timeout_s=context.settings.push_timeout_s, tls=context.tls) as client,
        ThreadPoolExecutor(min(MOST_AT_ONCE, len(errands)), thread_name_prefix="push") as threads,
    ):
        asked = {threads.submit(_ask, client, errand): errand for errand in errands}
        waiting: set[Future[Answer]] = set(asked)
        while waiting:
            wait(waiting, return_when=FIRST_COMPLETED)
            done, waiting = wait(waiting, timeout=_GATHER_S)
            _write(context, [(asked[each], each.result()) for each in done])


def _claim(context: WorkerContext, item_ids: Sequence[int]) -> list[_Errand]:
    """Those of the rows that are ours now and still ask for something; the others are closed."""
    errands, now = [], context.clock.now()
    with session_scope(context.engine) as session:
        items = outbox.claim_many(session, item_ids, now)
        ids = {item.payload["node_id"] for item in items}
        nodes = {node.id: node for node in session.scalars(select(Node).where(Node.id.in_(ids)))}
        for item in items:
            node = nodes.get(item.payload["node_id"])
            document = None if node is None else _document(session, node, item)
            if node is None or document is None:
                outbox.finish(session, item.id, now, note=OVERTAKEN)
            elif _has_it(node, document):
                outbox.finish(session, item.id, now, note=FETCHED)
            else:
                errands.append(_Errand(item.id, node.name, node.url, node.admin_token, document))
    return errands


def _write(context: WorkerContext, answers: Sequence[tuple[_Errand, Answer]]) -> None:
    """What the nodes said, in one transaction; one by one where that one met another over the same rows."""
    if not answers:
        return
    # By node, as every writer of several nodes takes them: so that no two can wait for each other.
    ordered = sorted(answers, key=lambda pair: pair[0].document.node_id)
    try:
        with session_scope(context.engine) as session:
            _note_all(session, context, ordered)
    except OperationalError as error:
        if len(ordered) == 1:
            raise
        log.warning("answers_written_singly", answers=len(ordered), error=str(error.orig))
        for pair in ordered:
            with session_scope(context.engine) as session:
                _note_all(session, context, [pair])
    for errand, answer in ordered:
        outcome = answer.outcome if isinstance(answer, SettingsAck) else getattr(answer, "code", "unreachable")
        document = errand.document
        log.info(
            "settings_pushed",
            node=errand.name,
            generation=document.generation,
            epoch=document.epoch,
            outcome=str(outcome),
        )


def _note_all(session: Session, context: WorkerContext, answers: Iterable[tuple[_Errand, Answer]]) -> None:
    now = context.clock.now()
    answers = list(answers)
    fleets.lock_nodes(session, [errand.document.node_id for errand, _ in answers])
    done: list[int] = []
    for errand, answer in answers:
        document = errand.document
        match answer:
            case SettingsAck():
                fleets.take_ack(session, session.get_one(Node, document.node_id), answer, now)
                done.append(errand.item_id)
            case SettingsReject():
                fleets.record_reject(session, document.node_id, document.generation, answer, now)
                outbox.finish(session, errand.item_id, now, note=f"{answer.code}: {answer.message}")
            case NodeUnreachable():
                if _has_it(session.get_one(Node, document.node_id), document):
                    outbox.finish(session, errand.item_id, now, note=FETCHED)
                else:
                    outbox.fail(session, errand.item_id, now, error=answer.detail)
    outbox.finish_all(session, done, now)


def _has_it(node: Node, document: SettingsPush) -> bool:
    """Whether the node has said by itself that it has these settings, prepares or refuses them: it asks, too, and may be the only
    one that can, behind an address that nobody can dial."""
    if document.generation in (node.preparing_generation, node.rejected_generation):
        return True
    return node.observed_generation == document.generation and node.observed_hash == document.config_hash


def _document(session: Session, node: Node, item: OutboxItem) -> SettingsPush | None:
    if not node.is_there or node.desired_generation != item.payload["generation"]:
        return None
    return fleets.desired_push(session, node)


def _ask(client: NodeClient, errand: _Errand) -> Answer:
    try:
        return client.push(errand.url, errand.admin_token, errand.document)
    except NodeRejected as rejected:
        return rejected.reject
    except NodeUnreachable as unreachable:
        return unreachable
