"""The history, as pages and as a live stream."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event
from sqlalchemy.exc import SQLAlchemyError

from controlplane.accounts.dependencies import StillIn, require, still_in
from controlplane.accounts.roles import Role
from controlplane.dependencies import ReadSession
from controlplane.events import service
from controlplane.events.schemas import EventOut
from controlplane.events.stream import EventFanOut, Listener
from controlplane.paging import Paged
from controlplane.problem import declared
from controlplane.schemas import Cursor, Limit, Page, decode_int_cursor, encode_cursor

log = structlog.get_logger(__name__)

RECHECK_S = 10.0
router = APIRouter(tags=["events"], dependencies=[require(Role.VIEWER)])


@router.get("/events", responses=declared(401, 403, 422))
def list_events(
    session: ReadSession,
    paged: Paged,
    pool_id: str | None = None,
    node_id: str | None = None,
    rollout_id: str | None = None,
    kind: Annotated[str | None, Query(max_length=64, description="a kind, or a group of them: `rollout.*`")] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[EventOut]:
    """What happened, newest first."""
    rows = service.list_events(
        session,
        limit=limit + 1,
        before_id=decode_int_cursor(cursor),
        pool_id=pool_id,
        node_id=node_id,
        rollout_id=rollout_id,
        kind=kind,
    )
    page = [EventOut.model_validate(row) for row in rows[:limit]]
    return paged.page(page, encode_cursor(page[-1].id) if len(rows) > limit else None)


def _fan_out(request: Request) -> EventFanOut:
    fan_out = request.app.state.event_fan_out
    assert isinstance(fan_out, EventFanOut)
    return fan_out


FanOut = Annotated[EventFanOut, Depends(_fan_out)]


async def _listener(fan_out: FanOut, still_in: Annotated[StillIn, Depends(still_in)]) -> AsyncIterator[Listener]:
    listener = await fan_out.listen()
    watch = asyncio.create_task(_end_when_out(listener, still_in, RECHECK_S))
    try:
        yield listener
    finally:
        watch.cancel()
        fan_out.leave(listener)


async def _end_when_out(listener: Listener, still_in: StillIn, every_s: float) -> None:
    """A stream outlasts the session or token that opened it by no more than a moment."""
    await asyncio.sleep(every_s * random.random())  # streams that began together are not asked about together
    while True:
        try:
            if not await still_in():
                listener.end()
                return
        except SQLAlchemyError as error:
            log.warning("stream_not_rechecked", error=str(error))  # the next round asks again
        await asyncio.sleep(every_s)


# FastAPI would send each message through two more tasks and queues for each listener: with 200 of them most of the API's time.
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"description": "Successful Response", "content": {"text/event-stream": {"itemSchema": {
        "type": "object",
        "properties": {
            "data": {"type": "string"}, "event": {"type": "string"}, "id": {"type": "string"},
            "retry": {"type": "integer", "minimum": 0},
        },
    }}}},
}  # fmt: skip
_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}  # the latter: nginx passes each message on at once


@router.get("/events/stream", response_class=StreamingResponse, responses={**_STREAM, **declared(401, 403, 503)})
async def stream_events(
    fan_out: FanOut,
    listener: Annotated[Listener, Depends(_listener)],
    last_event_id: Annotated[int | None, Header(ge=0, le=2**62)] = None,
) -> StreamingResponse:
    """Server-sent events: each event of the history as it is written, and `tick` when a pool was observed anew.

    With `Last-Event-ID` what was missed comes first; `reset` instead says that too much was missed to tell.
    """
    missed = [] if last_event_id is None else await fan_out.replay(last_event_id)

    async def frames() -> AsyncIterator[bytes]:
        yield format_sse_event(comment="connected", retry=2000)
        for message in missed:
            yield message.frame
        async for frame in listener.frames(but={message.id for message in missed if message.id is not None}):
            yield frame

    return StreamingResponse(frames(), media_type="text/event-stream", headers=_HEADERS)
