"""What happens to every HTTP request: an id to find it by, and a limit to its body."""

import re
import uuid

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# What a client may choose as its request id; anything else is replaced, since it ends up in logs.
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


class RequestId:
    """Echoes `x-request-id` or makes one, and binds it to the log lines of the request. Plain ASGI, so streams stay streams."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                headers["x-content-type-options"] = "nosniff"
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            await self._app(scope, receive, send_with_id)


class BodyLimit:
    """Refuses bodies above `limit` bytes with 413, announced or not. FastAPI's own limit answers in plain text."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app, self._limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "")
        too_long = announced.isdecimal() and int(announced) > self._limit
        received = 0

        async def receive_within_limit() -> Message:
            nonlocal received
            message = await receive() if not too_long else {}
            received += len(message.get("body", b""))
            if too_long or received > self._limit:
                # The rest of the body is not read, so the connection cannot serve another request.
                raise HTTPException(413, headers={"connection": "close"})
            return message

        await self._app(scope, receive_within_limit, send)
