"""`APIRouter(route_class=IdempotentRoute)`: its changes honour `Idempotency-Key`.

Rests on the order that FastAPI keeps: the handler has made the answer while the transaction of `WriteSession` (scope
"function") is still open, so that the answer is kept in it. Not for answers that carry secrets, which would be stored.
"""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.routing import APIRoute
from sqlalchemy.orm import Session

from controlplane.accounts.dependencies import identify
from controlplane.accounts.roles import Identity
from controlplane.dependencies import Now, WriteSession
from controlplane.idempotency import service
from controlplane.idempotency.models import IdempotencyRecord

REPLAYED = "Idempotency-Replayed"
_CLAIMED = "trimtab.idempotency"
_KEPT_HEADERS = ("content-type", "location", "etag")

Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="a fresh random text per change: the same request sent again within 24 hours changes nothing more "
        f"and gets the first answer, marked `{REPLAYED}: true`",
    ),
]


class AnsweredBefore(Exception):
    """Ends a request whose answer is known already."""

    def __init__(self, record: IdempotencyRecord) -> None:
        super().__init__(record.key)
        assert record.status is not None
        self.status, self.headers, self.body = record.status, dict(record.headers), record.body


async def _body(request: Request) -> bytes:
    return await request.body()


def claim_key(
    request: Request,
    who: Annotated[Identity, Depends(identify)],  # before the transaction: it may write down the token's use
    body: Annotated[bytes, Depends(_body)],
    session: WriteSession,
    now: Now,
    key: Key = None,
) -> None:
    """Raises AnsweredBefore, IdempotencyKeyReused."""
    if key is None:
        return
    target = f"{request.url.path}?{request.url.query}"
    same = service.fingerprint(request.method, target, request.headers.get("if-match", ""), body)
    known = service.claim(session, token_id=who.caller_id, key=key, fingerprint=same, now=now)
    if known is not None:
        raise AnsweredBefore(known)
    request.scope[_CLAIMED] = (session, who.caller_id, key)


class IdempotentRoute(APIRoute):
    """A route that changes something, and does so once per key."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        if set(options.get("methods") or ()) - {"GET", "HEAD"}:
            # Before the route's own role is looked at: a caller who is refused leaves no key, since nothing is committed,
            # and one who had an answer was allowed to get it.
            options["dependencies"] = [*(options.get("dependencies") or ()), Depends(claim_key)]
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def answer_once(request: Request) -> Response:
            response = await answer(request)
            if (claimed := request.scope.get(_CLAIMED)) is not None:
                session, token_id, key = claimed
                await run_in_threadpool(_keep, session, token_id, key, response)
            return response

        return answer_once


def _keep(session: Session, token_id: str, key: str, response: Response) -> None:
    headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
    body = bytes(response.body).decode()
    service.keep(session, token_id=token_id, key=key, status=response.status_code, headers=headers, body=body)


def _again(_: Request, error: Exception) -> Response:
    assert isinstance(error, AnsweredBefore)
    return Response(error.body, error.status, {**error.headers, REPLAYED: "true"})


def install(app: FastAPI) -> None:
    """Lets the application give kept answers again."""
    app.add_exception_handler(AnsweredBefore, _again)
