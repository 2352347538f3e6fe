"""Makes an API answer with each error that its description promises: one way for each status, and own ways where needed.

A way is tried for every operation that documents its status; what no way produces is what `Errors.missing()` names.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx2

from tests.support.api import ENROLMENT_TOKEN, Api
from tests.support.registrations import registration

Operation = tuple[str, str]  # method, path as described
STALE = {"If-Match": '"stale"'}
FOREIGN = {"Sec-Fetch-Site": "cross-site"}
HUGE = b"{" + b" " * 1_000_001
# Of everything that lists, filters or conditions take, something that none of them can be.
WRONG_QUERY = {
    "limit": 0, "cursor": "x", "force": "maybe", "format": "nginx", "active": "perhaps", "since": "yesterday", "after": -1,
    "outcome": "MAYBE",
}  # fmt: skip
WRONG_HEADERS = {"If-Match": "3", "Last-Event-ID": "-1", "Idempotency-Key": "two words"}


@dataclass(slots=True)
class World:
    """What the ways work on.

    `broken` is an API whose tables are gone, `closed` one that lets no node join. `viewer` is a token, `cookie` a
    browser's that was opened with it, `person` that of a user with a password. `ids` are of things that are there, by
    the name of their path parameter; `bodies` fit, by operation.
    """

    api: Api
    broken: Api
    closed: Api
    viewer: str
    cookie: str
    node_token: str
    person: str
    ids: dict[str, str]
    bodies: dict[Operation, dict[str, Any]]
    special: dict[tuple[str, str, int], Callable[["World"], httpx2.Response]] = field(default_factory=dict)

    def send(
        self, operation: Operation, *, ids: dict[str, str] | None = None, headers: dict[str, str] | None = None,
        api: Api | None = None, token: str | None = None, body: Any = ..., **options: Any,
    ) -> httpx2.Response:  # fmt: skip
        """token: None for the admin's, "" for none."""
        method, path = operation
        for name, value in {**self.ids, **(ids or {})}.items():
            path = path.replace(f"{{{name}}}", value)
        sent = dict(headers or {})
        if path.startswith("/api/v1/agents/") and token is None:
            token = ENROLMENT_TOKEN if path.endswith("/register") else self.node_token
        if path.startswith("/api/v1/account/") and token is None:
            token, sent = "", {"Cookie": self.person, **sent}
        if token:
            sent["Authorization"] = f"Bearer {token}"
        client = (api or self.api).anonymous if token is not None else (api or self.api).client
        content = self.bodies.get(operation) if body is ... else body
        if content is not None and "content" not in options:
            options["json"] = content
        return client.request(method, path, headers=sent, **options)


def documented(api: dict[str, Any]) -> Iterator[tuple[Operation, int]]:
    """Every error of every operation."""
    for path, operations in api["paths"].items():
        for method, operation in operations.items():
            for status in operation["responses"]:
                if status.startswith(("4", "5")):
                    yield (method.upper(), path), int(status)


def ways(world: World, operation: Operation, status: int) -> Iterator[httpx2.Response]:
    """Answers to what should bring the status about, the likeliest first."""
    method, path = operation
    own = world.special.get((method, path, status))
    if own is not None:
        yield own(world)
        return
    match status:
        case 401:
            yield world.send(operation, token="")
            yield world.send(operation, token="tt_nobody", headers={"Cookie": "trimtab_session=nobody"})
        case 403:
            yield world.send(operation, token=world.viewer)
            yield world.send(operation, token="", headers={"Cookie": world.cookie, **FOREIGN})
        case 404:
            yield world.send(operation, ids=dict.fromkeys(world.ids, "0" * 32))
            yield world.send(operation, params={"pool_id": "none"})
            yield world.send(operation, body={**world.bodies.get(operation, {}), "pool_id": "none"})
        case 412:
            yield world.send(operation, headers=STALE)
        case 413:
            yield world.send(operation, content=HUGE, headers={"Content-Type": "application/json"})
        case 422:
            yield world.send(operation, params=WRONG_QUERY, headers=WRONG_HEADERS, body=[] if method != "GET" else None)
            yield world.send(operation, ids=dict.fromkeys(world.ids, "%00"))
        case 503:
            yield world.send(operation, api=world.broken)


def join(api: Api, name: str, **changes: Any) -> dict[str, Any]:
    """A node that has registered and said no more: it counts as starting."""
    body = registration(name, **changes).model_dump(mode="json")
    answer = api.anonymous.post(
        "/api/v1/agents/register", json=body, headers={"Authorization": f"Bearer {ENROLMENT_TOKEN}"}
    )
    document: dict[str, Any] = answer.raise_for_status().json()
    return document
