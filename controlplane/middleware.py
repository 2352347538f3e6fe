"""What happens around every request: a trace id, a bound on its size, headers that keep browsers safe, an answer to bugs."""

import re
import time
from uuid import uuid4

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from controlplane import problem
from controlplane.content_policy import content_policy

log = structlog.get_logger(__name__)

MAX_BODY_BYTES = 1_000_000
_TRACE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SECURITY_HEADERS = {
    "content-security-policy": content_policy(),  # the web app's page brings its own
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


class RequestContext:
    """Outermost of ours: names the request, logs how it ended, and turns what nobody caught into a 500 problem."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        trace_id = given if _TRACE_ID.fullmatch(given) else uuid4().hex
        scope["trace_id"] = trace_id
        started, status = time.perf_counter(), 0

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = trace_id
                for name, value in _SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                if scope["path"].startswith("/api/"):
                    headers.setdefault("cache-control", "no-store")
            await send(message)

        with structlog.contextvars.bound_contextvars(trace_id=trace_id):
            try:
                await self.app(scope, receive, send_named)
            except Exception as error:
                if status:  # the answer has begun: the connection can only be broken off
                    log.exception("response_broken_off", method=scope["method"], path=scope["path"])
                    raise
                await problem.internal(Request(scope), error)(scope, receive, send_named)
            log.debug(
                "request",
                method=scope["method"],
                path=scope["path"],
                status=status,
                duration_ms=round((time.perf_counter() - started) * 1000, 1),
            )


class BodyLimit:
    """Refuses bodies over the limit with 413, by their announced length or else by what has arrived."""

    def __init__(self, app: ASGIApp, max_bytes: int = MAX_BODY_BYTES) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "")
        if announced.isdigit() and int(announced) > self.max_bytes:
            answer = problem.problem(Request(scope), 413, self._detail())
            await answer(scope, receive, send)
            return
        received = 0

        async def receive_counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.max_bytes:
                raise HTTPException(413, self._detail())  # met by the problem handler
            return message

        await self.app(scope, receive_counted, send)

    def _detail(self) -> str:
        return f"the body is larger than {self.max_bytes} bytes"
