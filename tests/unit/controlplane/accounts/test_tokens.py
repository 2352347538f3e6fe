from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr
from sqlalchemy.orm import Session

from controlplane.accounts import tokens
from controlplane.accounts.roles import Role
from controlplane.errors import Conflict, Invalid, NotFound

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ADMIN = SecretStr("tt_" + "a" * 40)


class TestTokens:
    def test_are_known_by_their_secret_and_kept_as_hash(self, session: Session) -> None:
        token, secret = tokens.create_token(session, name="ci", role=Role.VIEWER, now=NOW)
        assert secret.startswith("tt_")
        assert len(secret) == 3 + 43  # 32 bytes in base64 without padding
        assert tokens.authenticate_token(session, secret, NOW) is token
        assert secret not in str(vars(token))
        assert tokens.authenticate_token(session, secret + "x", NOW) is None

    def test_end_at_their_time_and_when_revoked(self, session: Session) -> None:
        ends = NOW + timedelta(hours=1)
        tokens.ensure_admin_token(session, ADMIN, NOW)
        token, secret = tokens.create_token(session, name="ci", role=Role.VIEWER, now=NOW, expires_at=ends)
        assert tokens.authenticate_token(session, secret, ends - timedelta(seconds=1)) is token
        assert tokens.authenticate_token(session, secret, ends) is None
        tokens.revoke_token(session, token.id, NOW)
        assert tokens.authenticate_token(session, secret, NOW) is None

    def test_the_last_admin_cannot_be_revoked(self, session: Session) -> None:
        only = tokens.ensure_admin_token(session, ADMIN, NOW)
        with pytest.raises(Conflict, match="last admin"):
            tokens.revoke_token(session, only.id, NOW)
        tokens.create_token(session, name="second", role=Role.ADMIN, now=NOW)
        tokens.revoke_token(session, only.id, NOW)

    def test_one_that_is_not_there_is_not_found(self, session: Session) -> None:
        with pytest.raises(NotFound):
            tokens.revoke_token(session, "nope", NOW)

    def test_a_use_is_due_once_a_minute(self, session: Session) -> None:
        token, _ = tokens.create_token(session, name="ci", role=Role.VIEWER, now=NOW)
        assert tokens.is_use_due(token, NOW)
        tokens.note_use(session, token.id, NOW)
        session.refresh(token)
        assert not tokens.is_use_due(token, NOW + timedelta(seconds=59))
        assert tokens.is_use_due(token, NOW + timedelta(seconds=60))


class TestEnsureAdminToken:
    def test_is_the_same_token_at_each_start(self, session: Session) -> None:
        first = tokens.ensure_admin_token(session, ADMIN, NOW)
        assert tokens.ensure_admin_token(session, ADMIN, NOW).id == first.id
        assert len(tokens.list_tokens(session)) == 1

    def test_another_one_ends_the_one_before(self, session: Session) -> None:
        tokens.ensure_admin_token(session, ADMIN, NOW)
        other = SecretStr("tt_" + "b" * 40)
        tokens.ensure_admin_token(session, other, NOW)
        assert tokens.authenticate_token(session, ADMIN.get_secret_value(), NOW) is None
        assert tokens.authenticate_token(session, other.get_secret_value(), NOW) is not None

    def test_a_short_one_is_refused_without_showing_it(self, session: Session) -> None:
        with pytest.raises(Invalid, match="at least 24") as error:
            tokens.ensure_admin_token(session, SecretStr("hunter2"), NOW)
        assert "hunter2" not in error.value.detail
