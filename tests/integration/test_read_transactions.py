"""A read is one transaction while it is known who asks, and none stays open behind it."""

import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, event

from controlplane.accounts import known
from tests.support.api import Api, api_server

READS = (
    "fleet",
    "pools",
    "nodes",
    "decisions",
    "rollouts",
    "events",
    "alerts",
    "webhooks",
    "audit",
    "session",
    "tokens",
)
REFUSED = ("pools/none", "nodes/none", "decisions/none", "decisions?limit=0", "nodes?cursor=x", "pools/none/policy")


@pytest.fixture
def api(database_url: str) -> Iterator[Api]:
    with api_server(database_url) as running:
        yield running


@pytest.fixture
def begun() -> Iterator[list[Engine]]:
    """Whose transactions requests have begun, in the order of time. What the process does by itself is not among them."""
    seen: list[Engine] = []

    def note(connection: object) -> None:
        if threading.current_thread().name.startswith("AnyIO"):
            seen.append(connection.engine)  # type: ignore[attr-defined]

    event.listen(Engine, "begin", note)
    yield seen
    event.remove(Engine, "begin", note)


def test_a_read_begins_once(api: Api, begun: list[Engine], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "HOLDS_S", 3600.0)
    assert api.client.get("/api/v1/fleet").status_code == 200  # who asks is looked up here
    for read in READS:
        begun.clear()
        assert api.client.get(f"/api/v1/{read}").status_code == 200
        assert len(begun) == 1, read


def test_no_connection_stays_out_whatever_the_answer_is(api: Api, begun: list[Engine]) -> None:
    for path in (*READS, *REFUSED):
        assert api.client.get(f"/api/v1/{path}").status_code in {200, 404, 422}, path
        assert api.anonymous.get(f"/api/v1/{path}").status_code in {204, 401}, path
        wrong = {"Authorization": "Bearer tt_nobody"}
        assert api.anonymous.get(f"/api/v1/{path}", headers=wrong).status_code == 401, path
    assert begun[-1].pool.checkedout() == 0  # type: ignore[attr-defined]
