"""Who is shut out is out at once where it was said, and within a second at every other API process."""

import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.support.api import Api, api_server

# Of a machine that is busy with other tests; how long the memory lasts is looked at by a clock of its own (test_known.py).
_PATIENCE_S = 30.0


@pytest.fixture
def two(database_url: str) -> Iterator[tuple[Api, Api]]:
    with api_server(database_url) as first, api_server(database_url) as second:
        yield first, second


def _made(api: Api) -> dict[str, Any]:
    answer = api.client.post("/api/v1/tokens", json={"name": "ci", "role": "viewer"})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def _asks(api: Api, secret: str) -> int:
    headers = {"Authorization": f"Bearer {secret}"}
    return httpx2.get(f"{api.url}/api/v1/fleet", headers=headers, trust_env=False).status_code


def test_a_revoked_token_is_refused_at_once_here_and_soon_there(two: tuple[Api, Api]) -> None:
    here, there = two
    token = _made(here)
    assert _asks(here, token["token"]) == _asks(there, token["token"]) == 200
    assert here.client.delete(f"/api/v1/tokens/{token['id']}").status_code == 204
    revoked_at = time.monotonic()
    assert _asks(here, token["token"]) == 401
    while _asks(there, token["token"]) != 401:
        assert time.monotonic() - revoked_at < _PATIENCE_S, "a token outlives its revocation"
        time.sleep(0.05)


def test_a_session_that_was_signed_out_is_over_at_once(two: tuple[Api, Api]) -> None:
    here, _ = two
    token = _made(here)
    with httpx2.Client(base_url=here.url, trust_env=False) as browser:
        assert browser.post("/api/v1/session", json={"token": token["token"]}).status_code == 204
        kept = dict(browser.cookies)
        assert browser.get("/api/v1/fleet").status_code == 200
        assert browser.delete("/api/v1/session").status_code == 204
        again = httpx2.get(f"{here.url}/api/v1/fleet", cookies=kept, trust_env=False)
        assert again.status_code == 401
