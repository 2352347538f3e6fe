import json

import pytest
from starlette.requests import Request

from controlplane.errors import (
    Conflict,
    ControlPlaneError,
    Fenced,
    Forbidden,
    Invalid,
    NotFound,
    PreconditionMissing,
    Stale,
    TooMany,
    Unauthorized,
    Unavailable,
)
from controlplane.fleets.registration import ModelMismatch
from controlplane.problem import problem, status_of


def request(trace_id: str = "t-1") -> Request:
    return Request({"type": "http", "method": "GET", "path": "/", "headers": [], "trace_id": trace_id})


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotFound, 404),
        (Conflict, 409),
        (Fenced, 409),
        (ModelMismatch, 409),
        (Stale, 412),
        (Invalid, 422),
        (PreconditionMissing, 428),
        (Unauthorized, 401),
        (Forbidden, 403),
        (TooMany, 429),
        (Unavailable, 503),
        (ControlPlaneError, 500),
    ],
)
def test_each_family_has_its_status(error: type[ControlPlaneError], status: int) -> None:
    assert status_of(error("why")) == status


def test_a_problem_has_the_members_of_rfc_9457_and_the_trace_id() -> None:
    answer = problem(request(), 409, "why", title="Is there already", node="n1")
    assert answer.headers["content-type"] == "application/problem+json"
    assert json.loads(bytes(answer.body)) == {
        "type": "urn:trimtab:problem:is-there-already",
        "title": "Is there already",
        "status": 409,
        "detail": "why",
        "trace_id": "t-1",
        "node": "n1",
    }


def test_401_says_how_to_sign_in_and_429_when_to_come_back() -> None:
    assert problem(request(), 401, "").headers["www-authenticate"].startswith("Bearer")
    assert problem(request(), 429, "", retry_after_s=7.2).headers["retry-after"] == "7"
