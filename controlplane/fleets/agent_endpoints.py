"""What nodes call: join with the enrolment token, then report and ask with a token of their own."""

import asyncio
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from sqlalchemy import Engine, select

from controlplane.accounts import enrolment
from controlplane.accounts.access import access
from controlplane.accounts.dependencies import Bearer
from controlplane.accounts.secrets import hash_secret, is_same
from controlplane.db import session_scope
from controlplane.dependencies import DatabaseEngine, Now, ProcessSettings, WriteSession
from controlplane.errors import Forbidden, Unauthorized
from controlplane.fleets import service
from controlplane.fleets.models import Node
from controlplane.fleets.watch import DesiredWatch
from controlplane.problem import declared
from inference_node.contract.messages import (
    Heartbeat,
    HeartbeatReply,
    NodeRegistered,
    NodeRegistration,
    SettingsPush,
)

router = APIRouter(prefix="/agents", tags=["agents"])

MAX_WAIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Enrolment:
    """By what a node asks to join: the token of the configuration, one that an admin made, or its own from before."""

    secret: str
    one_time: bool = False
    node_id: str | None = None


def check_enrolment(bearer: Bearer, settings: ProcessSettings, engine: DatabaseEngine, now: Now) -> Enrolment:
    """Raises Unauthorized unless a token was shown with which a node may join, or come back."""
    secret = bearer.credentials if bearer is not None else ""
    if settings.enrolment_token is not None and is_same(secret, settings.enrolment_token.get_secret_value()):
        return Enrolment(secret)
    with session_scope(engine, read_only=True) as session:
        if enrolment.find(session, secret, now) is not None:
            return Enrolment(secret, one_time=True)
        node_id = session.scalar(select(Node.id).where(Node.token_hash == hash_secret(secret)))
    if node_id is not None:
        return Enrolment(secret, node_id=node_id)
    raise Unauthorized(
        "no node may join with this token: give it one that an admin made (web app, Access), or the control plane's "
        "CONTROLPLANE_ENROLMENT_TOKEN, as NODE_ENROLMENT_TOKEN"
    )


Joining = Annotated[Enrolment, Depends(check_enrolment)]


def agent_node_id(node_id: str, bearer: Bearer, engine: DatabaseEngine) -> str:
    """The node in the path, if the bearer is its token. Raises Unauthorized, upon which a node registers again."""
    if bearer is not None:
        with session_scope(engine, read_only=True) as session:
            query = select(Node.id).where(Node.id == node_id, Node.token_hash == hash_secret(bearer.credentials))
            if session.scalar(query) is not None:
                return node_id
    raise Unauthorized("this is not the node's present token: register again")


AgentNodeId = Annotated[str, Depends(agent_node_id)]


def _watch(request: Request) -> DesiredWatch:
    watch = request.app.state.desired_watch
    assert isinstance(watch, DesiredWatch)
    return watch


@router.post(
    "/register",
    status_code=201,
    responses=declared(401, 403, 409, 422),
    openapi_extra=access("enrolment"),
)
def register(body: NodeRegistration, by: Joining, session: WriteSession, now: Now) -> NodeRegistered:
    """A node joins or comes back. The answer holds its token, which replaces an earlier one."""
    one_time = enrolment.find(session, by.secret, now, lock=True) if by.one_time else None
    if by.one_time and one_time is None:
        raise Unauthorized("this enrolment token has ended in this moment: make another")
    registered = service.register_node(session, body, now=now)
    if by.node_id is not None and by.node_id != registered.node.id:
        raise Forbidden("a node's own token lets that node back in, and no other: use an enrolment token")
    if one_time is not None:
        enrolment.use(session, one_time, node_id=registered.node.id, same_process=registered.same_process, now=now)
    return NodeRegistered(node_id=registered.node.id, token=registered.token)


@router.post("/{node_id}/heartbeat", responses=declared(401, 422), openapi_extra=access("node"))
def heartbeat(body: Heartbeat, node_id: AgentNodeId, session: WriteSession, now: Now) -> HeartbeatReply:
    """A node says how it is, and hears which generation is desired of it."""
    return service.heartbeat(session, service.get_node(session, node_id), body, now=now)


@router.get(
    "/{node_id}/desired",
    response_model=SettingsPush,
    responses=declared(401, 422) | {204: {"description": "nothing newer than `after`"}},
    openapi_extra=access("node"),
)
async def desired(
    node_id: AgentNodeId,
    engine: DatabaseEngine,
    watch: Annotated[DesiredWatch, Depends(_watch)],
    after: Annotated[int, Query(ge=0, le=2**31 - 1, description="the generation that the node has")] = 0,
    wait_s: Annotated[float, Query(ge=0, le=MAX_WAIT_S, description="how long to wait for a newer one")] = 0.0,
) -> SettingsPush | Response:
    """The settings desired of the node, once their generation is above `after`: a long poll that holds no session."""
    push = await asyncio.to_thread(_newer_push, engine, node_id, after)
    if push is None and wait_s > 0:
        await watch.wait(node_id, after=after, timeout_s=wait_s)
        push = await asyncio.to_thread(_newer_push, engine, node_id, after)
    return push if push is not None else Response(status_code=204)


def _newer_push(engine: Engine, node_id: str, after: int) -> SettingsPush | None:
    with session_scope(engine, read_only=True) as session:
        push = service.desired_push(session, service.get_node(session, node_id))
    return push if push is not None and push.generation > after else None
