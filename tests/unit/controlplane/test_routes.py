"""Every route says who may call it, or stands on the list of those that all may call."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import RouteContext, iter_route_contexts

from controlplane.accounts.dependencies import RoleGate
from controlplane.accounts.roles import Role
from controlplane.app import create_app
from controlplane.fleets.agent_endpoints import agent_node_id, check_enrolment
from controlplane.fleets.sd_endpoints import check_reader
from controlplane.openapi import COMMITTED, TYPES, client_types, document
from controlplane.settings import ControlPlaneSettings

PUBLIC = {
    ("GET", "/livez"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
    ("GET", "/docs"),
    ("GET", "/docs/page.js"),
    ("GET", "/docs/page.css"),
    ("GET", "/openapi.json"),
    ("POST", "/api/v1/session"),
    ("GET", "/api/v1/session"),  # says who, or that nobody is signed in
    ("GET", "/api/v1/session/ways"),
    ("GET", "/api/v1/session/oidc"),  # a browser on its way to the identity provider
    ("GET", "/api/v1/session/oidc/callback"),  # and back, with a code that the provider vouches for
    ("POST", "/api/v1/invitations/look"),  # these two check the link's secret
    ("POST", "/api/v1/invitations/accept"),
}
OWN_KEY: dict[str, Callable[..., Any]] = {
    "/api/v1/agents/register": check_enrolment,
    "/api/v1/agents/{node_id}/heartbeat": agent_node_id,
    "/api/v1/agents/{node_id}/desired": agent_node_id,
    "/api/v1/agents/{node_id}/history": agent_node_id,
    "/api/v1/sd/prometheus": check_reader,
}
# Changes that any signed-in person may make: only to what is their own.
OWN = {
    ("DELETE", "/api/v1/session"),
    ("POST", "/api/v1/session/oidc/end"),
    ("PUT", "/api/v1/account/password"),
    ("POST", "/api/v1/account/tokens"),
    ("DELETE", "/api/v1/account/tokens/{token_id}"),
    ("DELETE", "/api/v1/account/sessions/{session_id}"),
}


@pytest.fixture(scope="module")
def app() -> FastAPI:
    return create_app(ControlPlaneSettings())


def routes(app: FastAPI) -> Iterator[tuple[str, str, RouteContext]]:
    for route in iter_route_contexts(app.routes):
        for method in (route.methods or set()) - {"HEAD"}:
            yield method, route.path or "", route


def calls(dependant: Dependant) -> Iterator[Any]:
    for inner in dependant.dependencies:
        yield inner.call
        yield from calls(inner)


def roles(route: RouteContext) -> set[Role]:
    return {call.role for call in calls(route.dependant) if isinstance(call, RoleGate)}


def test_each_route_needs_a_role_or_is_known_to_need_none(app: FastAPI) -> None:
    seen = 0
    for method, path, route in routes(app):
        seen += 1
        if (method, path) in PUBLIC:
            continue
        if path in OWN_KEY:
            assert OWN_KEY[path] in set(calls(route.dependant)), f"{method} {path} does not check its key"
        else:
            assert roles(route), f"{method} {path} says no role: add require(...), or list it as public on purpose"
    assert seen > 25


# Asks by POST since a question is a document; nothing is changed and nothing kept.
QUESTIONS = {("POST", "/api/v1/pools/{pool_id}/what-if")}


def test_whatever_changes_things_needs_more_than_a_viewer(app: FastAPI) -> None:
    for method, path, route in routes(app):
        if method in {"GET", "HEAD"} or (method, path) in PUBLIC | OWN | QUESTIONS or path in OWN_KEY:
            continue
        assert roles(route) - {Role.VIEWER}, f"{method} {path} can be called by a viewer"


def test_operation_ids_are_unique_and_every_operation_has_a_tag(app: FastAPI) -> None:
    operations = [operation for item in app.openapi()["paths"].values() for operation in item.values()]
    ids = [operation["operationId"] for operation in operations]
    assert sorted(ids) == sorted(set(ids))
    assert all(operation.get("tags") for operation in operations)


def test_errors_are_described_as_problems(app: FastAPI) -> None:
    api = app.openapi()
    assert "HTTPValidationError" not in json.dumps(api)
    assert {"type", "title", "status", "detail"} <= set(api["components"]["schemas"]["Problem"]["properties"])


def test_the_committed_description_is_current() -> None:
    assert COMMITTED.read_text(encoding="utf-8") == document(), "run: python -m controlplane.openapi"


def test_the_committed_types_of_the_client_are_current() -> None:
    assert TYPES.read_text(encoding="utf-8") == client_types(), "run: python -m controlplane.openapi"


def test_a_route_that_says_nothing_of_who_may_call_it_has_no_description() -> None:
    app = create_app(ControlPlaneSettings())

    @app.get("/api/v1/forgotten")
    def forgotten() -> None: ...

    with pytest.raises(RuntimeError, match="GET /api/v1/forgotten"):
        app.openapi()
