"""Who may call an operation, as part of the API's description: `x-access` of each one.

The value is the least role, or for operations that ask for no role: `anyone`, `enrolment` (what a node joins with), `node` (the
node's own token), `reader` (Prometheus: the enrolment token or any role). An operation that says nothing has no description,
and so neither a build nor a test of the description passes.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts
from starlette.routing import BaseRoute

from controlplane.accounts.dependencies import RoleGate
from controlplane.accounts.roles import Role

MEMBER = "x-access"
Unranked = Literal["anyone", "enrolment", "node", "reader"]


def access(to: Unranked) -> dict[str, Any]:
    """`openapi_extra` of a route that asks for no role, and checks by itself whatever else it asks for."""
    return {MEMBER: to}


def describe(api: dict[str, Any], routes: Sequence[BaseRoute]) -> dict[str, Any]:
    """Enters who may call what, in place. Raises RuntimeError for an operation of which no route says it."""
    for route in iter_route_contexts(routes):
        if not getattr(route, "include_in_schema", False) or not route.path:
            continue
        for method in route.methods or ():
            operation = api["paths"].get(route.path, {}).get(method.lower())
            if operation is not None and (role := _least_role(route.dependant)) is not None:
                operation[MEMBER] = str(role)
    silent = [
        f"{method.upper()} {path}"
        for path, item in api["paths"].items()
        for method, operation in item.items()
        if MEMBER not in operation
    ]
    if silent:
        raise RuntimeError(
            f"add require(...), or access(...) on purpose: nothing says who may call {', '.join(silent)}"
        )
    return api


def _least_role(dependant: Dependant) -> Role | None:
    """The highest role that any gate on the way asks for."""
    asked = [call.role for call in _calls(dependant) if isinstance(call, RoleGate)]
    return max(asked, key=list(Role).index) if asked else None


def _calls(dependant: Dependant) -> Iterator[Any]:
    for inner in dependant.dependencies:
        yield inner.call
        yield from _calls(inner)
