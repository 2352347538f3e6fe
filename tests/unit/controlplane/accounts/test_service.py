from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr
from sqlalchemy.orm import Session

from controlplane.accounts import service
from controlplane.accounts.roles import Role
from controlplane.errors import Conflict, Invalid, NotFound

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ADMIN = SecretStr("tt_" + "a" * 40)


class TestTokens:
    def test_are_known_by_their_secret_and_kept_as_hash(self, session: Session) -> None:
        token, secret = service.create_token(session, name="ci", role=Role.VIEWER, now=NOW)
        assert secret.startswith("tt_")
        assert len(secret) == 3 + 43  # 32 bytes in base64 without padding
        assert service.authenticate_token(session, secret, NOW) is token
        assert secret not in str(vars(token))
        assert service.authenticate_token(session, secret + "x", NOW) is None

    def test_end_at_their_time_and_when_revoked(self, session: Session) -> None:
        ends = NOW + timedelta(hours=1)
        service.ensure_admin_token(session, ADMIN, NOW)
        token, secret = service.create_token(session, name="ci", role=Role.VIEWER, now=NOW, expires_at=ends)
        assert service.authenticate_token(session, secret, ends - timedelta(seconds=1)) is token
        assert service.authenticate_token(session, secret, ends) is None
        service.revoke_token(session, token.id, NOW)
        assert service.authenticate_token(session, secret, NOW) is None

    def test_the_last_admin_cannot_be_revoked(self, session: Session) -> None:
        only = service.ensure_admin_token(session, ADMIN, NOW)
        with pytest.raises(Conflict, match="last admin"):
            service.revoke_token(session, only.id, NOW)
        service.create_token(session, name="second", role=Role.ADMIN, now=NOW)
        service.revoke_token(session, only.id, NOW)

    def test_one_that_is_not_there_is_not_found(self, session: Session) -> None:
        with pytest.raises(NotFound):
            service.revoke_token(session, "nope", NOW)

    def test_a_use_is_due_once_a_minute(self, session: Session) -> None:
        token, _ = service.create_token(session, name="ci", role=Role.VIEWER, now=NOW)
        assert service.is_use_due(token, NOW)
        service.note_use(session, token.id, NOW)
        session.refresh(token)
        assert not service.is_use_due(token, NOW + timedelta(seconds=59))
        assert service.is_use_due(token, NOW + timedelta(seconds=60))


class TestEnsureAdminToken:
    def test_is_the_same_token_at_each_start(self, session: Session) -> None:
        first = service.ensure_admin_token(session, ADMIN, NOW)
        assert service.ensure_admin_token(session, ADMIN, NOW).id == first.id
        assert len(service.list_tokens(session)) == 1

    def test_another_one_ends_the_one_before(self, session: Session) -> None:
        service.ensure_admin_token(session, ADMIN, NOW)
        other = SecretStr("tt_" + "b" * 40)
        service.ensure_admin_token(session, other, NOW)
        assert service.authenticate_token(session, ADMIN.get_secret_value(), NOW) is None
        assert service.authenticate_token(session, other.get_secret_value(), NOW) is not None

    def test_a_short_one_is_refused_without_showing_it(self, session: Session) -> None:
        with pytest.raises(Invalid, match="at least 24") as error:
            service.ensure_admin_token(session, SecretStr("hunter2"), NOW)
        assert "hunter2" not in error.value.detail


class TestSessions:
    def test_stand_for_their_token_until_closed(self, session: Session) -> None:
        token, _ = service.create_token(session, name="ann", role=Role.OPERATOR, now=NOW)
        secret, ends = service.open_session(session, token, NOW)
        assert service.authenticate_session(session, secret, NOW) is token
        assert service.authenticate_session(session, secret, ends) is None
        service.close_session(session, secret, NOW)
        session.expire_all()
        assert service.authenticate_session(session, secret, NOW) is None

    def test_end_with_their_token(self, session: Session) -> None:
        service.ensure_admin_token(session, ADMIN, NOW)
        ends = NOW + timedelta(hours=1)
        token, _ = service.create_token(session, name="ann", role=Role.OPERATOR, now=NOW, expires_at=ends)
        secret, session_ends = service.open_session(session, token, NOW)
        assert session_ends == ends
        service.revoke_token(session, token.id, NOW)
        assert service.authenticate_session(session, secret, NOW) is None


@pytest.mark.parametrize(
    ("has", "needs", "passes"),
    [(has, needs, i >= j) for i, has in enumerate(Role) for j, needs in enumerate(Role)],
)
def test_a_role_includes_those_below_it(has: Role, needs: Role, passes: bool) -> None:
    assert has.includes(needs) is passes
