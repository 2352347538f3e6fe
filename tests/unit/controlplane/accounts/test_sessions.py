from datetime import UTC, datetime, timedelta

from pydantic import SecretStr
from sqlalchemy.orm import Session

from controlplane.accounts import sessions, tokens
from controlplane.accounts.models import User
from controlplane.accounts.roles import Role

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ADMIN = SecretStr("tt_" + "a" * 40)


def a_user(session: Session) -> User:
    user = User(name="ann", role=Role.OPERATOR, created_at=NOW, created_by="test")
    session.add(user)
    session.flush()
    return user


class TestSessions:
    def test_stand_for_their_token_until_closed(self, session: Session) -> None:
        token, _ = tokens.create_token(session, name="ann", role=Role.OPERATOR, now=NOW)
        secret, ends = sessions.open_session(session, token, NOW)
        row = sessions.authenticate_session(session, secret, NOW)
        assert row is not None
        assert row.token is token
        assert sessions.authenticate_session(session, secret, ends) is None
        sessions.close_session(session, secret, NOW)
        session.expire_all()
        assert sessions.authenticate_session(session, secret, NOW) is None

    def test_end_with_their_token(self, session: Session) -> None:
        tokens.ensure_admin_token(session, ADMIN, NOW)
        ends = NOW + timedelta(hours=1)
        token, _ = tokens.create_token(session, name="ann", role=Role.OPERATOR, now=NOW, expires_at=ends)
        secret, session_ends = sessions.open_session(session, token, NOW)
        assert session_ends == ends
        tokens.revoke_token(session, token.id, NOW)
        assert sessions.authenticate_session(session, secret, NOW) is None

    def test_end_when_unused_for_a_day_and_after_a_week_at_the_latest(self, session: Session) -> None:
        secret, ends = sessions.open_session(session, a_user(session), NOW)
        assert ends == NOW + timedelta(days=7)
        row = sessions.authenticate_session(session, secret, NOW + timedelta(hours=23))
        assert row is not None
        assert sessions.authenticate_session(session, secret, NOW + timedelta(hours=24)) is None
        sessions.note_sight(session, row, NOW + timedelta(days=6, hours=23))
        session.expire_all()
        assert sessions.authenticate_session(session, secret, NOW + timedelta(days=6, hours=23)) is not None
        assert sessions.authenticate_session(session, secret, ends) is None

    def test_one_ends_alone_and_all_of_a_user_but_one(self, session: Session) -> None:
        user = a_user(session)
        secrets = [sessions.open_session(session, user, NOW)[0] for _ in range(3)]
        rows = [sessions.authenticate_session(session, secret, NOW) for secret in secrets]
        first, second, third = (row for row in rows if row is not None)
        sessions.end_session(session, first.id, NOW)
        assert {row.id for row in sessions.list_open(session, NOW)} == {second.id, third.id}
        sessions.end_sessions_of(session, user.id, NOW, except_id=third.id)
        session.expire_all()
        assert [row.id for row in sessions.list_open(session, NOW)] == [third.id]

    def test_of_a_disabled_user_is_none(self, session: Session) -> None:
        user = a_user(session)
        secret, _ = sessions.open_session(session, user, NOW)
        user.disabled_at = NOW
        assert sessions.authenticate_session(session, secret, NOW) is None
