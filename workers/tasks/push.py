"""One node, one push. Told the outbox row only; what is wished by now is read from SQL."""

import structlog
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

FETCHED = "the node has fetched it by itself"


def push(context: WorkerContext, item_id: int) -> None:
    """Brings a node's wish to it and its answer to SQL. Harmless when repeated, overtaken, or run twice at once.

    The call to the node lies between two transactions. Dying in between leaves the row claimed; it is due again when the
    claim runs out, and the node answers the same generation with `unchanged`.
    """
    with session_scope(context.engine) as session:
        item = outbox.claim(session, item_id, context.clock.now())
        if item is None:
            return
        wish = _wish(session, item)
        if wish is None:
            outbox.finish(session, item_id, context.clock.now(), note="overtaken by a newer wish")
            return
        node, document = wish
        if _has_it(node, document):
            outbox.finish(session, item_id, context.clock.now(), note=FETCHED)
            return
        url, admin_token, name = node.url, node.admin_token, node.name
    answer = _ask(context, url, admin_token, document)
    with session_scope(context.engine) as session:
        now = context.clock.now()
        match answer:
            case SettingsAck():
                fleets.record_ack(session, document.node_id, answer, now)
                outbox.finish(session, item_id, now)
            case SettingsReject():
                fleets.record_reject(session, document.node_id, document.generation, answer, now)
                outbox.finish(session, item_id, now, note=f"{answer.code}: {answer.message}")
            case NodeUnreachable():
                node = session.get_one(Node, document.node_id, populate_existing=True)
                if _has_it(node, document):
                    outbox.finish(session, item_id, now, note=FETCHED)
                else:
                    outbox.fail(session, item_id, now, error=answer.detail)
    outcome = answer.outcome if isinstance(answer, SettingsAck) else getattr(answer, "code", "unreachable")
    log.info("settings_pushed", node=name, generation=document.generation, epoch=document.epoch, outcome=str(outcome))


def _has_it(node: Node, document: SettingsPush) -> bool:
    """Whether the node has said by itself that it has these settings, or prepares them: it asks, too, and may be the only one
    that can, behind an address that nobody can dial."""
    if node.preparing_generation == document.generation:
        return True
    return node.observed_generation == document.generation and node.observed_hash == document.config_hash


def _wish(session: Session, item: OutboxItem) -> tuple[Node, SettingsPush] | None:
    node = session.get(Node, item.payload["node_id"])
    if node is None or not node.is_there or node.desired_generation != item.payload["generation"]:
        return None
    document = fleets.desired_push(session, node)
    return None if document is None else (node, document)


def _ask(
    context: WorkerContext, url: str, admin_token: str, document: SettingsPush
) -> SettingsAck | SettingsReject | NodeUnreachable:
    with NodeClient(timeout_s=context.settings.push_timeout_s) as client:
        try:
            return client.push(url, admin_token, document)
        except NodeRejected as rejected:
            return rejected.reject
        except NodeUnreachable as unreachable:
            return unreachable
