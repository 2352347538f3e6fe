from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from controlplane.accounts import entry, grants, passwords, sessions, tokens, users
from controlplane.accounts.models import User
from controlplane.accounts.roles import Role
from controlplane.db import session_scope
from controlplane.errors import Conflict, Invalid
from controlplane.fleets.models import Pool
from tests.support.pools import a_pool

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ADMIN = SecretStr("tt_" + "a" * 40)
PASSWORD = "four plain words here"
HASH = passwords.PasswordHash("kept")


def invited(session: Session, name: str = "ann", role: Role = Role.OPERATOR) -> tuple[User, str]:
    user = users.create_user(session, name=name, role=role, by="test", now=NOW)
    return user, users.invite(session, user, NOW)[0]


class TestSetUp:
    def test_makes_an_admin_who_comes_in_by_their_password_and_only_once(self, engine: Engine) -> None:
        user_id = entry.set_up(engine, "ann", PASSWORD, NOW)
        assert entry.sign_in(engine, " Ann ", PASSWORD, NOW) == user_id
        assert entry.sign_in(engine, "ann", PASSWORD + "!", NOW) is None
        assert entry.sign_in(engine, "nobody", PASSWORD, NOW) is None
        with pytest.raises(users.AlreadySetUp):
            entry.set_up(engine, "bob", PASSWORD, NOW)
        with session_scope(engine, read_only=True) as session:
            kept = users.get_user(session, user_id).password_hash
        assert kept is not None
        assert kept.startswith("$argon2id$v=19$m=65536,t=3,p=4$")

    @pytest.mark.parametrize("password", ["short", "a" * 20, "ann-the-admin-ann"[:14], "annannannannann 1"])
    def test_refuses_what_is_easy_to_guess_by_its_field(self, engine: Engine, password: str) -> None:
        with pytest.raises(passwords.WeakPassword) as error:
            entry.set_up(engine, "ann", password, NOW)
        assert error.value.extra["errors"][0]["field"] == "password"
        assert password not in error.value.detail


class TestInvitations:
    def test_a_link_is_good_once(self, session: Session) -> None:
        user, secret = invited(session)
        assert users.accept(session, secret, HASH, NOW) is user
        with pytest.raises(users.InvitationEnded):
            users.accept(session, secret, HASH, NOW)

    def test_ends_in_time_and_by_a_newer_one(self, session: Session) -> None:
        user, secret = invited(session)
        with pytest.raises(users.InvitationEnded):
            users.invited(session, secret, NOW + timedelta(hours=72))
        newer, _ = users.invite(session, user, NOW)
        session.expire_all()
        with pytest.raises(users.InvitationEnded):
            users.invited(session, secret, NOW)
        assert users.invited(session, newer, NOW)[0] is user

    @pytest.mark.parametrize("name", ["", "Ann", "an n", "-a", "a" * 65, "system", "controller"])
    def test_a_name_must_be_plain_and_free(self, session: Session, name: str) -> None:
        with pytest.raises((Invalid, users.NameTaken)):
            users.create_user(session, name=name, role=Role.VIEWER, by="test", now=NOW)


class TestShuttingOut:
    def test_disabling_ends_sessions_and_tokens_at_once(self, session: Session) -> None:
        tokens.ensure_admin_token(session, ADMIN, NOW)
        user, _ = invited(session)
        cookie, _ = sessions.open_session(session, user, NOW)
        _, secret = tokens.create_token(session, name="laptop", role=Role.VIEWER, now=NOW, owner=user)
        users.disable(session, user, by="test", now=NOW)
        users.enable(session, user, by="test", now=NOW)
        session.expire_all()
        assert sessions.authenticate_session(session, cookie, NOW) is None
        assert tokens.authenticate_token(session, secret, NOW) is None

    @pytest.mark.parametrize(
        "change",
        [users.disable, users.reset, partial(users.set_role, role=Role.VIEWER)],
        ids=["disabled", "reset", "demoted"],
    )
    def test_the_last_admin_stays(self, session: Session, change: Callable[..., object]) -> None:
        user = users.add_first_admin(session, name="ann", kept=HASH, now=NOW)
        with pytest.raises(Conflict, match="last admin"):
            change(session, user, by="test", now=NOW)


class TestRolesInPools:
    @pytest.fixture
    def pools(self, session: Session) -> tuple[Pool, Pool]:
        return a_pool(session, "a"), a_pool(session, "b")

    def test_are_replaced_as_a_whole(self, session: Session, pools: tuple[Pool, Pool]) -> None:
        one, other = pools
        user, _ = invited(session)
        users.set_grants(session, user, {one.id: Role.APPROVER}, by="test", now=NOW)
        users.set_grants(session, user, {one.id: Role.ADMIN, other.id: Role.OPERATOR}, by="test", now=NOW)
        assert grants.of_user(user) == {one.id: Role.ADMIN, other.id: Role.OPERATOR}
        users.set_grants(session, user, {}, by="test", now=NOW)
        session.expire_all()
        assert grants.of_user(user) == {}

    def test_of_a_pool_that_is_not_there_are_refused(self, session: Session) -> None:
        user, _ = invited(session)
        with pytest.raises(Invalid, match="no pool"):
            users.set_grants(session, user, {"nope": Role.ADMIN}, by="test", now=NOW)

    def test_bound_what_ones_own_token_may(self, session: Session, pools: tuple[Pool, Pool]) -> None:
        one, other = pools
        user, _ = invited(session, role=Role.VIEWER)
        users.set_grants(session, user, {one.id: Role.OPERATOR}, by="test", now=NOW)
        token, _ = tokens.create_token(session, name="laptop", role=Role.ADMIN, now=NOW, owner=user)
        assert tokens.identity_of(token).role_in(one.id) is Role.OPERATOR
        assert tokens.identity_of(token).role_in(other.id) is Role.VIEWER

    def test_a_token_of_one_pool_reads_elsewhere(self, session: Session, pools: tuple[Pool, Pool]) -> None:
        one, other = pools
        token, _ = tokens.create_token(session, name="ci", role=Role.ADMIN, now=NOW, pool_id=one.id)
        who = tokens.identity_of(token)
        assert [who.role_in(pool) for pool in (one.id, other.id, None)] == [Role.ADMIN, Role.VIEWER, Role.VIEWER]
