"""Every operation of the API's description, asked by everybody there is: in comes whom `x-access` names, and nobody else."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from pydantic import SecretStr
from sqlalchemy.orm import Session

from controlplane.accounts import tokens, users
from controlplane.accounts.models import User
from controlplane.accounts.roles import Role
from controlplane.accounts.secrets import new_secret
from controlplane.db import make_engine, session_scope
from controlplane.fleets import service as fleets
from tests.support.api import ADMIN_TOKEN, ENROLMENT_TOKEN, Api, api_server
from tests.support.database import sqlite_url
from tests.support.registrations import registration

REFUSED = {401, 403}


@dataclass(frozen=True, slots=True)
class World:
    """One node in each of two pools; `secrets` by who holds them."""

    api: Api
    operations: dict[tuple[str, str], dict[str, Any]]
    secrets: dict[str, str | None]
    ids: dict[str, dict[str, str]]

    def ask(self, method: str, path: str, who: str, *, pool: str | None = None) -> int:
        """The status; of pool "ours" or "theirs" where the path names something of a pool, else of what is not there."""
        filled = re.sub(r"\{(\w+)\}", lambda match: self.ids[pool or "nothing"].get(match[1], "nope"), path)
        secret = self.secrets[who]
        headers = {"authorization": f"Bearer {secret}"} if secret else {}
        with self.api.anonymous.stream(method.upper(), filled, json={}, headers=headers, timeout=120) as response:
            return response.status_code  # of a live stream too, which does not end


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    url = sqlite_url(tmp_path_factory.mktemp("matrix"))
    now = datetime.now(UTC)
    engine = make_engine(url)
    with session_scope(engine) as session:
        joined = {
            name: fleets.register_node(session, registration(name, pool=name, fleet=f"of-{name}"), now=now)
            for name in ("ours", "theirs")
        }
        ids = {name: {"pool_id": known.node.pool_id, "node_id": known.node.id} for name, known in joined.items()} | {
            "nothing": {}
        }
        secrets: dict[str, str | None] = {"anonymous": None, "node": joined["ours"].token, "unknown": new_secret("tt_")}
        secrets |= {role: _token(session, f"{role}-everywhere", Role(role), now) for role in Role}
        ours = ids["ours"]["pool_id"]
        for role in Role:
            secrets[f"{role} of ours"] = _token(session, f"{role}-of-ours", Role.VIEWER, now, {ours: role})
        _, secrets["one pool's token"] = tokens.create_token(session, name="ci", role=Role.ADMIN, now=now, pool_id=ours)
        _, secrets["expired"] = tokens.create_token(
            session, name="old", role=Role.ADMIN, now=now - timedelta(days=2), expires_at=now - timedelta(days=1)
        )
        tokens.ensure_admin_token(session, SecretStr(ADMIN_TOKEN), now)  # the last admin cannot be revoked
        revoked, secrets["revoked"] = tokens.create_token(session, name="gone", role=Role.ADMIN, now=now)
        tokens.revoke_token(session, revoked.id, now)
        disabled = _user(session, "disabled", Role.VIEWER, now)
        _, secrets["disabled"] = tokens.create_token(session, name="x", role=Role.ADMIN, now=now, owner=disabled)
        disabled.disabled_at = now
    engine.dispose()
    with api_server(url, requests_per_s=10_000) as api:
        paths = api.anonymous.get("/openapi.json").json()["paths"]
        operations = {(method, path): operation for path, item in paths.items() for method, operation in item.items()}
        yield World(api, operations, secrets, ids)


def _user(session: Session, name: str, role: Role, now: datetime, in_pools: dict[str, Role] | None = None) -> User:
    user = users.create_user(session, name=name, role=role, by="test", now=now)
    users.set_grants(session, user, in_pools or {}, by="test", now=now)
    return user


def _token(session: Session, name: str, role: Role, now: datetime, in_pools: dict[str, Role] | None = None) -> str:
    owner = _user(session, name, role, now, in_pools)
    return tokens.create_token(session, name="laptop", role=Role.ADMIN, now=now, owner=owner)[1]


def lets_in(needed: str, who: str) -> bool:
    """What `x-access` promises, for what belongs to no pool."""
    if needed == "anyone":
        return True
    if needed == "node":
        return False  # another node's token, or an id that is not there, is nobody's
    if needed == "enrolment":
        return who == "node"  # its own lets a node come back
    if who not in list(Role):
        return False
    return Role(who).includes(Role.VIEWER if needed == "reader" else Role(needed))


@pytest.mark.parametrize("who", ["anonymous", *Role, "node", "expired", "revoked", "disabled", "unknown"])
def test_each_operation_lets_in_whom_it_says(world: World, who: str) -> None:
    wrong = []
    for (method, path), operation in world.operations.items():
        if path == "/api/v1/session" and method == "get":
            continue  # below
        needed = operation["x-access"]
        status = world.ask(method, path, who)
        allowed = lets_in(needed, who)
        if needed == "anyone":
            right = status not in {403} and (status != 401 or path.startswith("/api/v1/invitations"))
        else:
            right = (status not in REFUSED) == allowed
        if not right or (status >= 500 and path != "/readyz"):
            wrong.append(f"{method} {path} ({needed}): {status}")
    assert wrong == []
    assert len(world.operations) > 60


def test_nobody_in_the_browser_is_no_error_and_a_bad_token_is(world: World) -> None:
    asked = {
        who: world.ask("get", "/api/v1/session", who) for who in ("anonymous", "viewer", "expired", "revoked", "node")
    }
    assert asked == {"anonymous": 204, "viewer": 200, "expired": 401, "revoked": 401, "node": 401}


def of_a_pool(world: World) -> Iterator[tuple[str, str, Role]]:
    """Operations whose path names a pool or a node, with the role they need."""
    for (method, path), operation in world.operations.items():
        needed = operation["x-access"]
        if (method, path) == ("delete", "/api/v1/nodes/{node_id}"):
            continue  # removed, it could not be asked about any more
        if re.search(r"\{(pool|node)_id\}", path) and needed in list(Role):
            yield method, path, Role(needed)


@pytest.mark.parametrize("who", [f"{role} of ours" for role in Role] + ["one pool's token"])
def test_a_role_in_one_pool_counts_there_and_nowhere_else(world: World, who: str) -> None:
    has = Role.ADMIN if who == "one pool's token" else Role(who.split()[0])
    wrong = []
    seen = 0
    for method, path, needed in of_a_pool(world):
        for pool, role in (("ours", has), ("theirs", Role.VIEWER)):
            seen += 1
            status = world.ask(method, path, who, pool=pool)
            if (status not in REFUSED) != role.includes(needed):
                wrong.append(f"{method} {path} ({needed}) of {pool}: {status}")
    assert wrong == []
    assert seen > 30


@pytest.mark.parametrize(("pool", "status"), [("ours", 503), ("theirs", 403)])
def test_a_pool_that_the_body_names_counts_too(world: World, pool: str, status: int) -> None:
    # 503: let in, and then told that none of the pool's nodes is ready.
    body = {"pool_id": world.ids[pool]["pool_id"], "settings": {"max_batch_size": 8}, "reason": "r", "dry_run": True}
    headers = {"authorization": f"Bearer {world.secrets['operator of ours']}"}
    assert world.api.anonymous.post("/api/v1/rollouts", json=body, headers=headers).status_code == status


def test_who_has_a_role_in_a_pool_decides_nothing_for_all(world: World) -> None:
    for (method, path), operation in world.operations.items():
        if operation["x-access"] == "admin" and "{pool_id}" not in path and "{node_id}" not in path:
            assert world.ask(method, path, "admin of ours") == 403, f"{method} {path}"


def test_a_node_speaks_for_itself_alone(world: World) -> None:
    for method, path in (("post", "/api/v1/agents/{node_id}/heartbeat"), ("get", "/api/v1/agents/{node_id}/desired")):
        assert world.ask(method, path, "node", pool="theirs") == 401
        for who in (*Role, "anonymous", "expired"):
            assert world.ask(method, path, who, pool="ours") == 401, f"{who}: {method} {path}"
    assert (
        world.ask("post", "/api/v1/agents/{node_id}/heartbeat", "node", pool="ours") == 422
    )  # let in, and then not understood


def test_the_configured_enrolment_token_lets_nodes_join_and_prometheus_read(world: World) -> None:
    held: httpx2.Headers | dict[str, str] = {"authorization": f"Bearer {ENROLMENT_TOKEN}"}
    assert world.api.anonymous.post("/api/v1/agents/register", json={}, headers=held).status_code == 422
    assert world.api.anonymous.get("/api/v1/sd/prometheus", headers=held).status_code == 200
    assert world.api.anonymous.get("/api/v1/pools", headers=held).status_code == 401
