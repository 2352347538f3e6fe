"""Sign-in at an identity provider, against authlib's own: who comes in, as what, and every answer that must not be believed."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from joserfc.jwk import RSAKey
from pydantic import SecretStr, ValidationError

from controlplane.accounts.oidc.attempt import Attempt, place
from controlplane.accounts.oidc.people import groups_of
from controlplane.accounts.oidc.provider import OpenIdProvider, is_trusted
from controlplane.accounts.oidc.terms import Asked, ProviderUnavailable
from controlplane.settings import ControlPlaneSettings, OidcRole
from tests.support.api import ADMIN_TOKEN, Api, api_server
from tests.support.database import sqlite_url
from tests.support.identity_provider import CLIENT_ID, CLIENT_SECRET, IdentityProvider, identity_provider
from tests.support.ports import free_port
from tests.support.ready_node import join_ready_node

V1 = "/api/v1"
BEGIN = f"{V1}/session/oidc"
ADA = {"sub": "248289761001", "preferred_username": "Ada", "groups": ["sre"]}


@dataclass
class World:
    """An API that knows the provider."""

    api: Api
    provider: IdentityProvider

    def browser(self) -> httpx2.Client:
        return httpx2.Client(base_url=self.api.url, timeout=30, trust_env=False)

    def users(self) -> dict[str, Any]:
        return {row["name"]: row for row in self.api.client.get(f"{V1}/users").json()["items"]}

    def walk(self, browser: httpx2.Client, person: dict[str, Any], then: str = "/rollouts") -> str:
        """There and back, as a browser goes; where it ends up: a path, with the word for why it failed."""
        self.provider.person = person
        back = self.there(browser, then)
        return browser.get(back).headers["location"]

    def there(self, browser: httpx2.Client, then: str = "/") -> str:
        """To the provider, which sends the browser back to this address."""
        begun = browser.get(BEGIN, params={"then": then})
        assert begun.status_code == 303, begun.text
        answered = httpx2.get(begun.headers["location"], trust_env=False)
        assert answered.status_code == 302, answered.text
        return answered.headers["location"]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with a_world(sqlite_url(tmp_path)) as found:
        yield found


@contextmanager
def a_world(database_url: str) -> Iterator[World]:
    port = free_port()
    with identity_provider(f"http://127.0.0.1:{port}{BEGIN}/callback") as provider:
        settings: dict[str, Any] = {
            "port": port,
            "oidc_issuer": provider.issuer,
            "oidc_name": "Example ID",
            "oidc_client_id": CLIENT_ID,
            "oidc_client_secret": CLIENT_SECRET,
            "oidc_roles": (
                OidcRole(group="sre", role="admin"),
                OidcRole(group="readers", role="viewer"),
                OidcRole(group="chat-team", role="operator", pool="main"),
                OidcRole(group="chat-leads", role="approver", pool="default/main"),
                OidcRole(group="others", role="operator", pool="not-there-yet"),
            ),
        }
        with api_server(database_url, **settings) as api:
            yield World(api, provider)


class TestComingIn:
    @pytest.fixture
    def world(self, database_url: str) -> Iterator[World]:
        with a_world(database_url) as found:
            yield found

    def test_a_person_is_let_in_with_the_role_of_their_group(self, world: World) -> None:
        ways = world.api.anonymous.get(f"{V1}/session/ways").json()
        assert ways["oidc"] == {"name": "Example ID", "url": BEGIN}
        with world.browser() as tab:
            assert world.walk(tab, ADA) == "/rollouts"
            who = tab.get(f"{V1}/session").json()
            assert (who["name"], who["role"]) == ("ada", "admin")
            assert "trimtab_oidc" not in tab.cookies
        asked = world.provider.asked[0]
        assert asked["code_challenge_method"] == "S256"
        assert len(asked["state"]) >= 43
        assert len(asked["nonce"]) >= 43
        user = world.users()["ada"]
        assert (user["provider"], user["state"]) == (world.provider.issuer, "active")
        events = world.api.client.get(f"{V1}/events?kind=access.*").json()["items"]
        assert [event["message"] for event in events] == ["single-sign-on created user ada as admin"]

    def test_the_session_is_one_of_ours_and_ends_when_somebody_ends_it(self, world: World) -> None:
        with world.browser() as tab:
            world.walk(tab, ADA)
            (row,) = (s for s in world.api.client.get(f"{V1}/sessions").json()["items"] if s["name"] == "ada")
            lasts = time.strptime(row["expires_at"][:19], "%Y-%m-%dT%H:%M:%S")
            assert 11.9 * 3600 < time.mktime(lasts) - time.mktime(time.gmtime()) <= 12 * 3600
            world.api.client.delete(f"{V1}/sessions/{row['id']}").raise_for_status()
            assert tab.get(f"{V1}/pools").status_code == 401

    def test_signing_out_says_where_the_providers_session_is_ended(self, world: World) -> None:
        with world.browser() as tab:
            world.walk(tab, ADA)
            said = tab.post(f"{BEGIN}/end", headers={"Sec-Fetch-Site": "same-origin"}).json()["url"]
            assert said.startswith(
                f"{world.provider.issuer}/end?client_id=trimtab&post_logout_redirect_uri=http%3A%2F%2F"
            )
            assert tab.get(f"{V1}/pools").status_code == 401
        with world.browser() as tab:
            tab.post(f"{V1}/session", json={"token": ADMIN_TOKEN}).raise_for_status()
            assert tab.post(f"{BEGIN}/end").json() == {"url": None}  # came in by a token
            assert tab.get(f"{V1}/pools").status_code == 401

    def test_roles_follow_the_groups_at_each_sign_in(self, world: World) -> None:
        pool = join_ready_node(world.api)
        with world.browser() as tab:
            for groups, role, in_pool in (
                (["readers"], "viewer", None),
                (["chat-team", "nobody-knows"], "viewer", "operator"),
                (["chat-team", "chat-leads", "others"], "viewer", "approver"),
                (["sre", "chat-team"], "admin", None),
                (["readers"], "viewer", None),
            ):
                assert world.walk(tab, ADA | {"groups": groups}) == "/rollouts"
                who = tab.get(f"{V1}/session").json()
                assert (who["role"], who["pools"]) == (role, {pool: in_pool} if in_pool else {})

    def test_who_left_their_groups_is_out_at_the_next_sign_in(self, world: World) -> None:
        with world.browser() as tab:
            world.walk(tab, ADA)
        with world.browser() as tab:
            assert world.walk(tab, ADA | {"groups": []}) == "/#sign-in=not-allowed"
            assert tab.get(f"{V1}/pools").status_code == 401

    def test_groups_that_only_userinfo_tells_count(self, world: World) -> None:
        world.provider.userinfo = {"groups": ["readers"]}
        with world.browser() as tab:
            assert world.walk(tab, {"sub": "1", "preferred_username": "eve"}) == "/rollouts"

    def test_userinfo_of_somebody_else_does_not(self, world: World) -> None:
        world.provider.userinfo = {"sub": "2", "groups": ["sre"]}
        with world.browser() as tab:
            assert world.walk(tab, {"sub": "1", "preferred_username": "eve"}) == "/#sign-in=refused"

    def test_a_new_key_of_the_providers_is_taken_up(self, world: World) -> None:
        with world.browser() as tab:
            world.walk(tab, ADA)
            world.provider.key = RSAKey.generate_key(2048, auto_kid=True)
            settings = ControlPlaneSettings(
                oidc_issuer=world.provider.issuer, oidc_client_id=CLIENT_ID, oidc_default_role="viewer",
                oidc_client_secret=SecretStr(CLIENT_SECRET),
            )  # fmt: skip
            now = 0.0
            provider = OpenIdProvider(settings, monotonic=lambda: now)
            old = provider._looked_up().keys
            assert provider._fresh_keys() is None  # asked for just now
            now = 31.0
            world.provider.key = RSAKey.generate_key(2048, auto_kid=True)
            fresh = provider._fresh_keys()
            assert fresh is not None
            assert [key.kid for key in fresh.keys] != [key.kid for key in old.keys]


class TestNobodyElse:
    def test_a_name_that_somebody_bears_here_makes_nobody_that_user(self, world: World) -> None:
        made = world.api.client.post(f"{V1}/users", json={"name": "ada", "role": "admin"})
        made.raise_for_status()
        with world.browser() as tab:
            assert world.walk(tab, ADA) == "/#sign-in=name-taken"
            assert tab.get(f"{V1}/pools").status_code == 401

    def test_another_subject_with_the_same_name_is_another_person(self, world: World) -> None:
        with world.browser() as tab:
            world.walk(tab, ADA)
        with world.browser() as tab:
            assert world.walk(tab, ADA | {"sub": "9"}) == "/#sign-in=name-taken"

    def test_who_is_renamed_at_the_provider_stays_who_they_are(self, world: World) -> None:
        with world.browser() as tab:
            world.walk(tab, ADA)
            world.walk(tab, ADA | {"preferred_username": "countess"})
            assert tab.get(f"{V1}/session").json()["name"] == "ada"

    def test_who_is_disabled_stays_out(self, world: World) -> None:
        with world.browser() as tab:
            world.walk(tab, ADA)
            user = world.users()["ada"]
            world.api.client.patch(f"{V1}/users/{user['id']}", json={"disabled": True}).raise_for_status()
            assert tab.get(f"{V1}/pools").status_code == 401
            assert world.walk(tab, ADA) == "/#sign-in=disabled"
            world.api.client.patch(f"{V1}/users/{user['id']}", json={"disabled": False}).raise_for_status()
            assert world.walk(tab, ADA) == "/rollouts"

    @pytest.mark.parametrize("name", ["", "two words", "system", "single-sign-on", "a" * 65])
    def test_a_name_that_cannot_stand_in_the_history_is_none(self, world: World, name: str) -> None:
        with world.browser() as tab:
            assert world.walk(tab, ADA | {"preferred_username": name}) in {"/#sign-in=no-name", "/#sign-in=name-taken"}


class TestWhatIsNotBelieved:
    @pytest.mark.parametrize(
        "lies",
        [
            {"iss": "https://elsewhere.example"},
            {"aud": "another-client"},
            {"aud": ["trimtab", "another-client"]},
            {"aud": ["trimtab", "another-client"], "azp": "another-client"},
            {"azp": "another-client"},
            {"nonce": "of-another-sign-in"},
            {"nonce": None},
            {"exp": timedelta(seconds=-120)},
            {"exp": None},
            {"iat": timedelta(hours=1)},
            {"iat": None},
            {"nbf": timedelta(hours=1)},
            {"sub": ""},
            {"sub": None},
            {"sub": 7},
            {"aud": None},
            {"iss": None},
            {"at_hash": "b3RoZXI"},
        ],
        ids=str,
    )
    def test_an_identity_token_that_lies(self, world: World, lies: dict[str, Any]) -> None:
        """A span of time is one from now: tests are collected long before they run."""
        now = time.time()
        world.provider.lies = {
            claim: int(now + said.total_seconds()) if isinstance(said, timedelta) else said
            for claim, said in lies.items()
        }
        with world.browser() as tab:
            assert world.walk(tab, ADA) == "/#sign-in=refused"
            assert tab.get(f"{V1}/pools").status_code == 401
        assert world.provider.tokens == 1
        assert world.users() == {}

    def test_one_that_is_not_signed_or_signed_by_who_is_not_the_provider(self, world: World) -> None:
        with world.browser() as tab:
            world.provider.unsigned = True
            assert world.walk(tab, ADA) == "/#sign-in=refused"
            world.provider.unsigned, world.provider.by_secret = False, True
            assert world.walk(tab, ADA) == "/#sign-in=refused"
            world.provider.by_secret, world.provider.published = False, world.provider.key
            world.provider.key = RSAKey.generate_key(2048, {"kid": str(world.provider.key.kid)})
            assert world.walk(tab, ADA) == "/#sign-in=refused"
            assert tab.get(f"{V1}/pools").status_code == 401

    def test_clocks_may_differ_by_the_skew_and_no_more(self, world: World) -> None:
        with world.browser() as tab:
            for seconds, right in ((-30, True), (-90, False)):
                world.provider.lies = {"exp": int(time.time()) + seconds}
                assert (world.walk(tab, ADA) == "/rollouts") is right
            for seconds, right in ((30, True), (120, False)):
                world.provider.lies = {"iat": int(time.time()) + seconds}
                assert (world.walk(tab, ADA) == "/rollouts") is right

    def test_a_code_without_the_verifier_is_worth_nothing(self, world: World) -> None:
        """PKCE: who has stolen the address with the code, and brings their own cookie, is refused by the provider."""
        world.provider.person = ADA
        with world.browser() as victim, world.browser() as thief:
            stolen = parse_qs(urlsplit(world.there(victim)).query)
            own = parse_qs(urlsplit(world.there(thief)).query)
            answer = thief.get(f"{BEGIN}/callback", params={"code": stolen["code"][0], "state": own["state"][0]})
            assert answer.headers["location"] == "/#sign-in=refused"

    def test_an_answer_that_this_browser_did_not_ask_for(self, world: World) -> None:
        """Nobody is signed in as somebody else by a link that those sent them."""
        world.provider.person = ADA
        with world.browser() as attacker, world.browser() as victim:
            link = world.there(attacker)
            assert victim.get(link).headers["location"] == "/#sign-in=expired"
            world.there(victim)
            assert victim.get(link).headers["location"] == "/#sign-in=expired"
            assert victim.get(f"{V1}/pools").status_code == 401

    def test_a_code_is_good_once(self, world: World) -> None:
        world.provider.person = ADA
        with world.browser() as tab:
            back, cookie = world.there(tab), tab.cookies["trimtab_oidc"]
            assert tab.get(back).headers["location"] == "/"
            again = httpx2.get(back, headers={"cookie": f"trimtab_oidc={cookie}"}, trust_env=False)
            assert again.headers["location"] == "/#sign-in=refused"

    def test_an_answer_of_another_issuer(self, world: World) -> None:
        world.provider.person = ADA
        with world.browser() as tab:
            answer = tab.get(world.there(tab) + "&iss=https%3A%2F%2Felsewhere.example")
            assert answer.headers["location"] == "/#sign-in=refused"

    def test_no_is_no(self, world: World) -> None:
        with world.browser() as tab:
            world.provider.person = ADA
            state = parse_qs(urlsplit(world.there(tab)).query)["state"][0]
            refused = tab.get(f"{BEGIN}/callback", params={"error": "access_denied", "state": state})
            assert refused.headers["location"] == "/#sign-in=cancelled"

    def test_who_tries_too_often_waits(self, world: World) -> None:
        world.provider.lies = {"nonce": "x"}
        with world.browser() as tab:
            ends = [world.walk(tab, ADA) for _ in range(12)]
        assert set(ends[:10]) == {"/#sign-in=refused"}
        assert ends[-1] == "/#sign-in=too-many"


class TestTheProvider:
    @pytest.mark.parametrize(
        "lies",
        [
            {"issuer": "https://elsewhere.example"},
            {"token_endpoint": "http://elsewhere.example/token"},
            {"jwks_uri": "ftp://127.0.0.1/keys"},
            {"authorization_endpoint": "javascript:alert(1)"},
        ],
        ids=str,
    )
    def test_that_says_what_does_not_hold_is_not_used(self, world: World, lies: dict[str, Any]) -> None:
        world.provider.metadata_lies = lies
        with world.browser() as tab:
            assert tab.get(BEGIN).headers["location"] == "/#sign-in=unavailable"

    def test_that_is_away_keeps_nobody_from_signing_in_otherwise(self, world: World) -> None:
        settings = {
            "oidc_issuer": "http://127.0.0.1:1", "oidc_client_id": "x", "oidc_client_auth": "none",
            "oidc_default_role": "viewer",
        }  # fmt: skip
        with api_server(world.api.settings.database_url, **settings) as api:
            assert api.anonymous.get(BEGIN).headers["location"] == "/#sign-in=unavailable"
            assert api.client.get(f"{V1}/pools").status_code == 200

    def test_that_is_not_set_up_is_not_offered(self, tmp_path: Path) -> None:
        with api_server(sqlite_url(tmp_path)) as api:
            assert api.anonymous.get(f"{V1}/session/ways").json()["oidc"] is None
            for path in (BEGIN, f"{BEGIN}/callback?code=x&state=y"):
                assert api.anonymous.get(path).headers["location"] == "/#sign-in=unavailable"

    def test_unreachable_is_said_without_the_secret(self) -> None:
        settings = ControlPlaneSettings(
            oidc_issuer="http://127.0.0.1:1", oidc_client_id="x", oidc_default_role="viewer",
            oidc_client_secret=SecretStr("s3cret-of-the-client"),
        )  # fmt: skip
        with pytest.raises(ProviderUnavailable) as caught:
            OpenIdProvider(settings).begin()
        assert "127.0.0.1:1" in str(caught.value)
        assert "s3cret" not in str(caught.value) + repr(settings)


@pytest.mark.parametrize(
    ("then", "leads_to"),
    [
        ("/rollouts?pool=a#b", "/rollouts?pool=a#b"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("https://evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("/a\r\nset-cookie: x", "/"),
        ("", "/"),
        (None, "/"),
    ],
)
def test_afterwards_one_is_in_the_web_app_and_nowhere_else(then: str | None, leads_to: str) -> None:
    assert place(then) == leads_to
    forged = Attempt(Asked("s", "n", "v"), then or "/").to_cookie()
    found = Attempt.from_cookie(forged)
    assert found is not None
    assert found.then == leads_to


@pytest.mark.parametrize("cookie", ["", "x", "e30=", "WzEsMl0=", "W251bGwsbnVsbCxudWxsLG51bGxd", "é"])
def test_a_cookie_that_we_have_not_made_is_none(cookie: str) -> None:
    assert Attempt.from_cookie(cookie) is None


def test_groups_are_found_where_providers_put_them() -> None:
    assert groups_of({"groups": ["a", 7, "b"]}, "groups") == {"a", "b"}
    assert groups_of({"groups": "a"}, "groups") == {"a"}
    assert groups_of({"realm_access": {"roles": ["a"]}}, "realm_access.roles") == {"a"}
    assert groups_of({"https://x.example/groups": ["a"]}, "https://x.example/groups") == {"a"}
    assert groups_of({"groups": {"a": 1}}, "groups") == groups_of({}, "groups") == frozenset()


@pytest.mark.parametrize(
    "address", ["https://idp.example/a", "http://127.0.0.1:1/a", "http://[::1]/", "http://localhost"]
)
def test_https_and_loopback_are_trusted(address: str) -> None:
    assert is_trusted(address)


@pytest.mark.parametrize(
    "address", ["http://idp.example", "http://10.0.0.1", "https://", "file:///x", "x", "http://127.1.evil"]
)
def test_nothing_else_is(address: str) -> None:
    assert not is_trusted(address)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"oidc_issuer": "http://idp.example"}, "https address"),
        ({"oidc_issuer": "https://idp.example?x"}, "https address"),
        ({"oidc_client_id": None}, "oidc_client_id is missing"),
        ({"oidc_client_secret": None}, "give oidc_client_secret"),
        ({"oidc_client_auth": "none"}, "give oidc_client_secret"),
        ({"oidc_scopes": ("email",)}, "openid must be"),
        ({"oidc_default_role": None}, "nobody could come in"),
    ],
)
def test_settings_with_which_nobody_could_come_in_are_refused(settings: dict[str, Any], named: str) -> None:
    good = {
        "oidc_issuer": "https://idp.example", "oidc_client_id": "x", "oidc_client_secret": SecretStr("s3cret"),
        "oidc_default_role": "viewer",
    }  # fmt: skip
    ControlPlaneSettings(**good)  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match=named) as caught:
        ControlPlaneSettings(**(good | settings))  # type: ignore[arg-type]
    assert "s3cret" not in str(caught.value)
