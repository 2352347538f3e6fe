"""A Prometheus that lets in only whom it knows: its own TLS and users, and a proxy that wants headers. No secret is told."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pydantic import SecretStr, ValidationError

from controlplane.errors import Invalid
from controlplane.outside import Outside
from controlplane.settings import ControlPlaneSettings
from controlplane.telemetry.prometheus import Prometheus, PrometheusUnavailable
from tests.support.certificates import Authority, Pair
from tests.support.prometheus_server import PrometheusServer, prometheus_server

pytestmark = pytest.mark.prometheus
USER, PASSWORD = "trimtab", "pl4in-words-of-a-scraper"
# Of PASSWORD, by bcrypt, which the standard library of newer Pythons no longer makes.
PASSWORD_HASH = "$2b$04$LNDwwSkFNBeisERuNTcsR.XT318mbXRo3uK4q3KWpHtcagA9osXIi"
TOKEN = "t0ken-of-the-proxy-for-tests"
WEB_CONFIG = """
tls_server_config:
  cert_file: {server.certificate}
  key_file: {server.key}
  client_ca_file: {ca}
  client_auth_type: {clients}
basic_auth_users:
  {user}: {hash}
"""


@dataclass(frozen=True, slots=True)
class Guarded:
    """A Prometheus behind TLS and basic authentication; `client` is a certificate that it takes."""

    server: PrometheusServer
    authority: Authority
    client: Pair


@contextmanager
def guarded(folder: Path, *, clients: str) -> Iterator[Guarded]:
    authority = Authority(folder / "pki")
    server, client = authority.issue("server"), authority.issue("client")
    config = folder / "web.yml"
    config.write_text(
        WEB_CONFIG.format(server=server, ca=authority.ca_file, clients=clients, user=USER, hash=PASSWORD_HASH)
    )
    way_in: dict[str, Any] = {"verify": authority.context(client), "auth": (USER, PASSWORD)}
    with prometheus_server(folder / "prometheus", web_config=config, **way_in) as running:
        yield Guarded(running, authority, client)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with guarded(tmp_path_factory.mktemp("tls"), clients="VerifyClientCertIfGiven") as running:
        yield running


def one(url: str, **settings: Any) -> str:
    """What it answers to the sum of one and one."""
    made = ControlPlaneSettings(prometheus_url=url, **settings)
    client = Prometheus.of(made)
    try:
        client.check()
        return client.query("vector(1 + 1)", datetime.now(UTC))[0].value
    finally:
        client.close()


def refused(url: str, **settings: Any) -> str:
    with pytest.raises(PrometheusUnavailable) as caught:
        one(url, **settings)
    return str(caught.value)


class TestTlsAndUsers:
    def test_a_name_and_a_password_come_in_by_setting_file_and_address(self, tls: Guarded, tmp_path: Path) -> None:
        url, ca = tls.server.url, tls.authority.ca_file
        (tmp_path / "password").write_text(PASSWORD + "\n")
        assert one(url, prometheus_ca_file=ca, prometheus_user=USER, prometheus_password=SecretStr(PASSWORD)) == "2"
        file = tmp_path / "password"
        assert one(url, prometheus_ca_file=ca, prometheus_user=USER, prometheus_password_file=file) == "2"
        assert one(url.replace("//", f"//{USER}:{PASSWORD}@"), prometheus_ca_file=ca) == "2"

    def test_a_certificate_by_nobody_known_is_refused_unless_one_wants_it_so(self, tls: Guarded) -> None:
        known = {"prometheus_user": USER, "prometheus_password": SecretStr(PASSWORD)}
        assert "CERTIFICATE_VERIFY_FAILED" in refused(tls.server.url, **known)
        assert one(tls.server.url, **known, prometheus_verify=False) == "2"

    def test_nobody_comes_in_without_or_with_a_wrong_password(self, tls: Guarded) -> None:
        ca = {"prometheus_ca_file": tls.authority.ca_file}
        assert "401" in refused(tls.server.url, **ca)
        wrong = SecretStr("wr0ng-words-of-somebody")
        said = refused(tls.server.url, **ca, prometheus_user=USER, prometheus_password=wrong)
        assert "401" in said
        assert "wr0ng" not in said

    def test_our_certificate_is_shown_where_it_is_asked_for(self, tmp_path: Path) -> None:
        with guarded(tmp_path, clients="RequireAndVerifyClientCert") as strict:
            known = {
                "prometheus_ca_file": strict.authority.ca_file,
                "prometheus_user": USER,
                "prometheus_password": SecretStr(PASSWORD),
            }
            refused(strict.server.url, **known)
            ours = {"prometheus_client_certificate_file": strict.client.certificate}
            assert one(strict.server.url, **known, **ours, prometheus_client_key_file=strict.client.key) == "2"
            stranger = Authority(tmp_path / "other", "strangers").issue("stranger")
            theirs = {
                "prometheus_client_certificate_file": stranger.certificate,
                "prometheus_client_key_file": stranger.key,
            }
            refused(strict.server.url, **known, **theirs)


@dataclass
class Proxy:
    """In front of a Prometheus: answers 401 and 400 to who lacks the token or the tenant, and may send people elsewhere."""

    url: str
    sends_to: str | None = None
    token: str = TOKEN
    seen: list[dict[str, str]] = field(default_factory=list)


@contextmanager
def proxy(behind: str) -> Iterator[Proxy]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            found.seen.append(dict(self.headers))
            if found.sends_to is not None:
                self.answer(307, b"", location=found.sends_to + self.path)
            elif self.headers["authorization"] != f"Bearer {found.token}":
                self.answer(401, b"who are you?")
            elif self.headers["x-scope-orgid"] != "team-a":
                self.answer(400, b"no tenant")
            else:
                passed = {"content-type": self.headers["content-type"] or "text/plain"}
                answer = httpx2.post(behind + self.path, content=body, headers=passed, trust_env=False)
                self.answer(answer.status_code, answer.content)

        def answer(self, status: int, body: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in (
                {"content-type": "application/json", "content-length": str(len(body))} | headers
            ).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Proxy(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrometheusServer]:
    with prometheus_server(tmp_path_factory.mktemp("plain")) as running:
        yield running


@pytest.fixture
def tenant(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "token").write_text(TOKEN + "\n")
    return {
        "prometheus_headers": {"X-Scope-OrgID": SecretStr("team-a")},
        "prometheus_bearer_token_file": tmp_path / "token",
    }


class TestHeaders:
    def test_tenant_and_token_go_with_each_query(self, plain: PrometheusServer, tenant: dict[str, Any]) -> None:
        with proxy(plain.url) as door:
            assert one(door.url, **tenant) == "2"
            assert "400" in refused(door.url, **(tenant | {"prometheus_headers": {}}))
            assert "401" in refused(door.url, **(tenant | {"prometheus_bearer_token_file": None}))

    def test_a_token_that_is_renewed_is_taken_up_without_a_restart(
        self, plain: PrometheusServer, tenant: dict[str, Any]
    ) -> None:
        with proxy(plain.url) as door:
            client = Prometheus.of(ControlPlaneSettings(prometheus_url=door.url, **tenant))
            client.check()
            door.token = "an0ther-token-for-tests"
            with pytest.raises(PrometheusUnavailable):
                client.check()
            tenant["prometheus_bearer_token_file"].write_text(door.token)
            client.check()
            tenant["prometheus_bearer_token_file"].unlink()
            with pytest.raises(PrometheusUnavailable, match="token: No such file or directory"):
                client.check()
            client.close()

    def test_nothing_goes_to_where_a_store_sends_us(self, plain: PrometheusServer, tenant: dict[str, Any]) -> None:
        with proxy(plain.url) as door, proxy(plain.url) as elsewhere:
            door.sends_to = elsewhere.url
            assert "another address" in refused(door.url, **tenant)
            assert elsewhere.seen == []

    def test_what_stands_in_netrc_is_nobodys(
        self, plain: PrometheusServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password s0mething\n")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        with proxy(plain.url) as door:
            refused(door.url)
            assert "Authorization" not in door.seen[0]

    def test_no_secret_is_told(
        self, plain: PrometheusServer, tenant: dict[str, Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        with proxy(plain.url) as door:
            door.token = "n0t-this-one"
            headers = {"X-Api-Key": SecretStr("k3y-of-the-store-for-tests")}
            made = ControlPlaneSettings(prometheus_url=door.url, **(tenant | {"prometheus_headers": headers}))
            said = Outside(made).prometheus().detail + repr(made) + str(made.model_dump_json())
        assert door.seen[0]["X-Api-Key"] == "k3y-of-the-store-for-tests"
        for secret in (TOKEN, "k3y-of-the-store-for-tests"):
            assert secret not in said + caplog.text


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"prometheus_headers": {"X Scope": "a"}}, "no header's name"),
        ({"prometheus_headers": {"X-Scope": "s3cret\r\nHost: x"}}, "line ends"),
        ({"prometheus_headers": {"authorization": "Basic s3cret"}, "prometheus_user": "u"}, "leave all but one out"),
        ({"prometheus_bearer_token_file": "/t", "prometheus_user": "u"}, "leave all but one out"),
        ({"prometheus_password": "s3cret"}, "goes with prometheus_user"),
        ({"prometheus_user": "u", "prometheus_password": "s3cret", "prometheus_password_file": "/p"}, "one of them"),
        ({"prometheus_client_key_file": "/k"}, "goes with prometheus_client_certificate_file"),
        ({"prometheus_verify": False, "prometheus_ca_file": "/c"}, "unread"),
    ],
)
def test_what_contradicts_itself_is_refused_and_not_repeated(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError, match=named) as caught:
        ControlPlaneSettings(**settings)
    assert "s3cret" not in str(caught.value)


def test_an_address_that_names_a_user_beside_another_is_refused() -> None:
    with pytest.raises(Invalid, match="leave one of them out"):
        Prometheus.of(ControlPlaneSettings(prometheus_url="http://a:b@127.0.0.1:1", prometheus_user="c"))
