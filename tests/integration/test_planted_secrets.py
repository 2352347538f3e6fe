"""Thirty secrets planted where the control plane handles them: none is in a log, metric, error, answer or page, nor in SQL."""

import logging
import re
from collections.abc import Callable

import httpx2
import pytest
from sqlalchemy import inspect

from controlplane.db import make_engine, session_scope
from controlplane.fleets import service as fleets
from controlplane.sealing_key import new_key
from tests.support.api import ADMIN_TOKEN, ENROLMENT_TOKEN, api_server
from tests.support.database import sqlite_url
from tests.support.registrations import registration


class Planted:
    """`secret(where)` makes one that can be recognised and remembers it."""

    def __init__(self) -> None:
        self.secrets = {"admin token": ADMIN_TOKEN, "enrolment token": ENROLMENT_TOKEN}

    def secret(self, where: str) -> str:
        self.secrets[where] = f"pl4nted-{len(self.secrets)}-{abs(hash(where)):x}-words"
        return self.secrets[where]

    def keep(self, where: str, secret: str) -> str:
        assert len(secret) > 20
        self.secrets[where] = secret
        return secret

    def found_in(self, texts: dict[str, str]) -> list[str]:
        return [
            f"{where} in {place}" for where, s in self.secrets.items() for place, text in texts.items() if s in text
        ]


def test_none_is_told_to_anybody(tmp_path_factory: pytest.TempPathFactory, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    planted = Planted()
    folder = tmp_path_factory.mktemp("secrets")
    url = sqlite_url(folder)
    told: dict[str, str] = {}  # by what was asked

    def hear(response: httpx2.Response) -> httpx2.Response:
        told[f"answer {len(told)}: {response.request.method} {response.request.url.path}"] = response.text + str(
            [value for name, value in response.headers.items() if name != "set-cookie"]
        )
        return response

    def once(response: httpx2.Response, *path: str) -> str:
        """What this answer is for: it shows a secret, here and never again."""
        found = response.json()
        for key in path:
            found = found[key]
        return str(found)

    node_admin = planted.secret("the node's admin token")
    with api_server(
        url,
        redis_url=f"redis://user:{planted.secret('Redis password')}@127.0.0.1:1/0",
        prometheus_url=f"http://user:{planted.secret('Prometheus password')}@127.0.0.1:1",
        prometheus_headers={"X-Api-Key": planted.secret("Prometheus header")},
        kubernetes_token=planted.secret("Kubernetes token"),
        audit_key=planted.secret("audit key") + "-of-32-letters-and-more",
        secret_keys=planted.keep("sealing key", new_key()),
        log_level="DEBUG",
    ) as api:
        admin, anyone = api.client, api.anonymous
        tab = httpx2.Client(base_url=api.url, timeout=30, trust_env=False)
        tab.post("/api/v1/session", json={"token": ADMIN_TOKEN})
        planted.keep("session of a token", tab.cookies["trimtab_session"])
        password = planted.secret("password")
        hear(tab.post("/api/v1/set-up", json={"name": "ada", "password": password}))
        planted.keep("session of a user", tab.cookies["trimtab_session"])
        link = planted.keep(
            "invitation", once(tab.post("/api/v1/users", json={"name": "bob", "role": "viewer"}), "url").split("=")[1]
        )
        hear(anyone.post("/api/v1/invitations/look", json={"secret": link}))
        other = once(tab.post("/api/v1/users", json={"name": "cleo", "role": "viewer"}), "url").split("=")[1]
        planted.keep("used invitation", other)
        hear(
            anyone.post(
                "/api/v1/invitations/accept", json={"secret": other, "password": planted.secret("chosen password")}
            )
        )
        service = planted.keep(
            "a service's token", once(admin.post("/api/v1/tokens", json={"name": "ci", "role": "operator"}), "token")
        )
        planted.keep(
            "one's own token", once(tab.post("/api/v1/account/tokens", json={"name": "l", "role": "viewer"}), "token")
        )
        enrolment = planted.keep(
            "one-time enrolment token", once(admin.post("/api/v1/enrolment-tokens", json={"note": "n"}), "token")
        )
        joining = registration("node-1", admin_token=node_admin).model_dump(mode="json")
        held = {"authorization": f"Bearer {enrolment}"}
        node = planted.keep(
            "node's token", once(anyone.post("/api/v1/agents/register", json=joining, headers=held), "token")
        )

        pager = {"name": "pager", "url": "https://events.pagerduty.com/v2/enqueue", "format": "pagerduty"}
        made = admin.post("/api/v1/webhooks", json=pager | {"credential": planted.secret("routing key")})
        planted.keep("signing secret", once(made, "signing_secret"))
        chat = {
            "name": "chat",
            "url": f"https://hooks.slack.com/services/{planted.secret('chat address')}",
            "format": "slack",
        }
        admin.post("/api/v1/webhooks", json=chat).raise_for_status()

        webhook = {"name": "ci", "url": "https://ci.example.com/"}
        signed = admin.post("/api/v1/webhooks", json=webhook).raise_for_status().json()
        rotated = admin.post(f"/api/v1/webhooks/{signed['id']}/secret", json={"keep_s": 60})
        planted.keep("rotated signing secret", once(rotated, "signing_secret"))
        planted.keep("signing secret before", signed["signing_secret"])
        ticket = {"name": "ticket", "url": "https://tickets.example.com/", "format": "ticket"}
        ticketed = admin.post(
            "/api/v1/webhooks", json=ticket | {"credential": planted.secret("ticket system's header")}
        )
        webhook_id = ticketed.raise_for_status().json()["id"]
        changed = {"credential": planted.secret("ticket system's header, changed")}
        admin.patch(f"/api/v1/webhooks/{webhook_id}", json=changed, headers={"If-Match": ticketed.headers["etag"]})
        admin.post(f"/api/v1/webhooks/{webhook_id}/test").raise_for_status()
        alertmanager = {"name": "am", "url": "https://am.example.com/", "format": "alertmanager"}
        admin.post(
            "/api/v1/webhooks", json=alertmanager | {"credential": planted.secret("Alertmanager's header")}
        ).raise_for_status()

        # What is refused is not repeated either.
        refused: dict[str, Callable[[str], httpx2.Response]] = {
            "wrong password": lambda s: anyone.post("/api/v1/session", json={"name": "ada", "password": s}),
            "wrong token": lambda s: anyone.post("/api/v1/session", json={"token": s}),
            "wrong bearer": lambda s: anyone.get("/api/v1/pools", headers={"authorization": f"Bearer {s}"}),
            "wrong cookie": lambda s: anyone.get("/api/v1/pools", headers={"cookie": f"trimtab_session={s}"}),
            "wrong link": lambda s: anyone.post("/api/v1/invitations/look", json={"secret": s}),
            "wrong enrolment token": lambda s: anyone.post(
                "/api/v1/agents/register", json=joining, headers={"authorization": f"Bearer {s}"}
            ),
            "weak password": lambda s: tab.put(
                "/api/v1/account/password", json={"present": password, "password": s[:14]}
            ),
            "password in a field too many": lambda s: anyone.post("/api/v1/session", json={"name": "ada", "pass": s}),
            "token of the wrong type": lambda s: anyone.post("/api/v1/session", json={"token": {"inner": s}}),
        }
        for where, call in refused.items():
            assert hear(call(planted.secret(where))).status_code >= 400, where
        hear(anyone.get("/api/v1/session", headers={"authorization": f"Bearer {service}"}))
        hear(anyone.post("/api/v1/agents/nope/heartbeat", json={}, headers={"authorization": f"Bearer {node}"}))

        shown = admin.get("/api/v1/nodes").json()["items"][0]
        for path, item in anyone.get("/openapi.json").json()["paths"].items():
            if "get" in item and not path.startswith("/api/v1/events/") and "/agents/" not in path:
                filled = path.replace("{node_id}", shown["id"]).replace("{pool_id}", shown["pool_id"])
                hear(tab.get(re.sub(r"\{.*?\}", "nope", filled)))
        for page in ("/", "/access", "/docs", "/openapi.json"):
            hear(tab.get(page, headers={"accept": "text/html"}))
        told["metrics"] = anyone.get("/metrics").text
        tab.close()
    # The test's own client tells its socket's bytes there.
    told["log"] = "\n".join(r.getMessage() for r in caplog.records if not r.name.startswith("httpcore2"))
    assert len(planted.secrets) >= 30
    assert len(told) > 40
    assert "request_refused" in told["log"], "the log under test is the one that was written"
    assert planted.found_in(told) == []

    engine = make_engine(url)
    with session_scope(engine, read_only=True) as session:
        assert fleets.list_nodes(session)[0].name == "node-1"
        kept = "\n".join(
            str(row)
            for table in inspect(engine).get_table_names()
            for row in session.connection().exec_driver_sql(f"SELECT * FROM {table}")
        )
    engine.dispose()
    assert "ada" in kept
    assert "tickets" not in kept, "addresses are sealed, too"
    # The file itself, with what SQLite has not yet thrown away.
    files = {path.name: path.read_bytes().decode("latin-1") for path in folder.iterdir()}
    assert "ada" in "".join(files.values())
    assert planted.found_in({"SQL": kept} | files) == []
