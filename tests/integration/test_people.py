"""People come in (set-up, password, invitation) and are put out. Nodes join by a token that is good once."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import pytest

from tests.support.api import ADMIN_TOKEN, Api, api_server
from tests.support.database import sqlite_url
from tests.support.registrations import registration

PASSWORD = "four plain words here"
OTHER = "quite another sentence"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with api_server(sqlite_url(tmp_path_factory.mktemp("people"))) as api:
        yield api


@contextmanager
def browser(api: Api) -> Iterator[httpx2.Client]:
    """Keeps cookies, as a browser does."""
    with httpx2.Client(base_url=api.url, timeout=30, trust_env=False) as client:
        yield client


def the_admin(api: Api, tab: httpx2.Client) -> None:
    """Signs in as the first user, who is set up where there is none yet."""
    if not tab.get("/api/v1/session/ways").json()["password"]:
        tab.post("/api/v1/session", json={"token": ADMIN_TOKEN})
        assert tab.post("/api/v1/set-up", json={"name": "ada", "password": PASSWORD}).status_code == 204
    else:
        assert tab.post("/api/v1/session", json={"name": "ada", "password": PASSWORD}).status_code == 204
    assert tab.get("/api/v1/session").json()["name"] == "ada"


def invite(admin: httpx2.Client, name: str, role: str = "operator") -> tuple[str, str]:
    """Id of the user, and the secret of their link."""
    made = admin.post("/api/v1/users", json={"name": name, "role": role})
    assert made.status_code == 201, made.text
    return made.json()["user"]["id"], made.json()["url"].partition("#invitation=")[2]


def test_set_up_needs_the_installations_token_and_happens_once(api: Api) -> None:
    with browser(api) as stranger, browser(api) as admin:
        assert stranger.post("/api/v1/set-up", json={"name": "eve", "password": PASSWORD}).status_code == 401
        the_admin(api, admin)
        again = api.client.post("/api/v1/set-up", json={"name": "eve", "password": PASSWORD})
        assert again.status_code == 409
        assert admin.get("/api/v1/session").json()["set_up_due"] is False


def test_an_invited_user_chooses_a_password_and_is_put_out_at_once(api: Api) -> None:
    with browser(api) as admin, browser(api) as tab, browser(api) as second:
        the_admin(api, admin)
        user_id, secret = invite(admin, "bob")
        assert tab.post("/api/v1/invitations/look", json={"secret": secret}).json()["name"] == "bob"
        weak = tab.post("/api/v1/invitations/accept", json={"secret": secret, "password": "bob"})
        assert weak.status_code == 422
        assert weak.json()["errors"][0]["field"] == "password"
        assert tab.post("/api/v1/invitations/accept", json={"secret": secret, "password": PASSWORD}).status_code == 204
        assert second.post("/api/v1/invitations/accept", json={"secret": secret, "password": OTHER}).status_code == 401
        assert second.post("/api/v1/session", json={"name": "Bob", "password": PASSWORD}).status_code == 204
        token = tab.post("/api/v1/account/tokens", json={"name": "laptop", "role": "admin"})
        assert token.status_code == 422  # more than his own role
        token = tab.post("/api/v1/account/tokens", json={"name": "laptop", "role": "operator"})
        held = {"authorization": f"Bearer {token.json()['token']}"}
        assert api.anonymous.get("/api/v1/session", headers=held).json()["name"] == "bob"

        changed = tab.put("/api/v1/account/password", json={"present": PASSWORD, "password": OTHER})
        assert changed.status_code == 204
        assert tab.get("/api/v1/pools").status_code == 200
        assert second.get("/api/v1/pools").status_code == 401  # his other session ended

        assert admin.patch(f"/api/v1/users/{user_id}", json={"disabled": True}).json()["state"] == "disabled"
        assert tab.get("/api/v1/pools").status_code == 401
        assert api.anonymous.get("/api/v1/pools", headers=held).status_code == 401
        refused = second.post("/api/v1/session", json={"name": "bob", "password": OTHER})
        assert (refused.status_code, refused.json()["title"]) == (401, "This user is disabled")
        # Who does not know the password learns nothing of it.
        guessed = second.post("/api/v1/session", json={"name": "bob", "password": PASSWORD})
        nobodys = second.post("/api/v1/session", json={"name": "nobody", "password": PASSWORD})
        assert guessed.json()["title"] == nobodys.json()["title"] == "Name or password is wrong"


def test_sessions_are_listed_and_ended_by_an_admin(api: Api) -> None:
    with browser(api) as admin, browser(api) as tab:
        the_admin(api, admin)
        _, secret = invite(admin, "cleo")
        tab.post("/api/v1/invitations/accept", json={"secret": secret, "password": PASSWORD})
        listed = admin.get("/api/v1/sessions").json()["items"]
        (hers,) = [row for row in listed if row["name"] == "cleo"]
        assert [row["name"] for row in listed if row["current"]] == ["ada"]
        assert admin.delete(f"/api/v1/sessions/{hers['id']}").status_code == 204
        assert tab.get("/api/v1/pools").status_code == 401
        gone = tab.get("/api/v1/session")
        assert gone.status_code == 204
        assert re.search(r'trimtab_session="?"?;.*Max-Age=0', gone.headers["set-cookie"])


def test_over_https_the_cookie_is_bound_to_the_host(tmp_path_factory: pytest.TempPathFactory) -> None:
    url = sqlite_url(tmp_path_factory.mktemp("https"))
    with api_server(url, public_url="https://trimtab.example") as api:
        cookie = api.anonymous.post("/api/v1/session", json={"token": ADMIN_TOKEN}).headers["set-cookie"]
        assert cookie.startswith("__Host-trimtab_session=tts_")
        assert {"Secure", "HttpOnly", "Path=/", "SameSite=lax"} <= set(cookie.split("; "))
        assert "Domain" not in cookie


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize("path", ["/api/v1/session", "/api/v1/invitations/accept", "/api/v1/set-up"])
def test_no_foreign_page_opens_an_entrance(api: Api, site: str, path: str) -> None:
    body = {"token": ADMIN_TOKEN} if path == "/api/v1/session" else {"secret": "s", "name": "n", "password": PASSWORD}
    held = {"authorization": f"Bearer {ADMIN_TOKEN}"} if path == "/api/v1/set-up" else {}
    refused = api.anonymous.post(path, json=body, headers={"sec-fetch-site": site} | held)
    assert refused.status_code in {403, 409, 422}
    assert "set-cookie" not in refused.headers


def test_a_caller_who_floods_is_told_when_to_come_back(tmp_path_factory: pytest.TempPathFactory) -> None:
    with api_server(sqlite_url(tmp_path_factory.mktemp("flood")), requests_per_s=0.1) as api:
        statuses = [api.client.get("/api/v1/pools").status_code for _ in range(1)]
        stopped = api.client.get("/api/v1/pools")
        assert statuses == [200]
        assert stopped.status_code == 429
        assert 1 <= int(stopped.headers["retry-after"]) <= 10
        assert api.anonymous.get("/livez").status_code == 200


class TestEnrolment:
    def register(self, api: Api, token: str, name: str, life: str = "first") -> httpx2.Response:
        body = registration(name, instance_id=f"{name}-{life}-life").model_dump(mode="json")
        return api.anonymous.post("/api/v1/agents/register", json=body, headers={"authorization": f"Bearer {token}"})

    def test_a_token_lets_one_node_in_once(self, api: Api) -> None:
        token = api.client.post("/api/v1/enrolment-tokens", json={"note": "rack 4"}).json()["token"]
        assert self.register(api, token, "one").status_code == 201
        assert self.register(api, token, "one").status_code == 201  # the same process, which lost the answer
        assert self.register(api, token, "two").status_code == 401
        assert self.register(api, token, "one", "second").status_code == 401
        (listed,) = [t for t in api.client.get("/api/v1/enrolment-tokens").json()["items"] if t["note"] == "rack 4"]
        assert listed["state"] == "used"
        assert token not in str(listed)

    def test_a_node_comes_back_by_its_own_token_and_lets_no_other_in(self, api: Api) -> None:
        token = api.client.post("/api/v1/enrolment-tokens", json={}).json()["token"]
        own = self.register(api, token, "three").json()["token"]
        assert self.register(api, own, "four").status_code == 403
        fresh = self.register(api, own, "three", "second")
        assert fresh.status_code == 201
        assert self.register(api, own, "three", "third").status_code == 401  # replaced
        nodes = {node["name"] for node in api.client.get("/api/v1/nodes").json()["items"]}
        assert "three" in nodes
        assert "four" not in nodes

    def test_a_revoked_one_lets_nobody_in(self, api: Api) -> None:
        made = api.client.post("/api/v1/enrolment-tokens", json={}).json()
        assert api.client.delete(f"/api/v1/enrolment-tokens/{made['id']}").status_code == 204
        assert self.register(api, made["token"], "five").status_code == 401
