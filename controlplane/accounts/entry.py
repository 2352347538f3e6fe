"""How people come in by a password: read, then compute (argon2 takes its time), then write; no transaction waits meanwhile."""

from datetime import datetime

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from controlplane.accounts import passwords, users
from controlplane.accounts.models import User
from controlplane.db import session_scope
from controlplane.errors import Forbidden, Unauthorized


class WrongPassword(Forbidden):
    title = "Wrong password"


class WrongNameOrPassword(Unauthorized):
    title = "Name or password is wrong"


class UserDisabled(Unauthorized):
    title = "This user is disabled"


def sign_in(engine: Engine, name: str, password: str, now: datetime) -> str | None:
    """Id of the user whose password this is, None for anybody else. Takes as long for a name that nobody has.

    Raises UserDisabled only to who knows the password: to others a disabled user looks like one that is not there.
    """
    with session_scope(engine, read_only=True) as session:
        user = users.find_user(session, name)
    kept = user.password_hash if user is not None else None
    if not passwords.is_right(password, kept):
        return None
    assert user is not None and kept is not None
    fresh = passwords.rehash(password) if passwords.is_outdated(kept) else kept
    with session_scope(engine) as session:
        user = users.get_user(session, user.id)
        if user.password_hash != kept:  # changed while we looked
            return None
        if user.disabled_at is not None:
            raise UserDisabled(f"an admin disabled {user.name}: only an admin can enable them again")
        user.password_hash, user.last_sign_in_at = fresh, now
        return user.id


def set_up(engine: Engine, name: str, password: str, now: datetime) -> str:
    """Id of the first admin. Raises AlreadySetUp, Invalid, NameTaken, WeakPassword."""
    with session_scope(engine, read_only=True) as session:
        users.check_name(session, name)
    kept = passwords.prepare(password, name)
    with session_scope(engine) as session:
        return users.add_first_admin(session, name=name, kept=kept, now=now).id


def accept(engine: Engine, secret: str, password: str, now: datetime) -> str:
    """Id of the invited user, who has this password from now on. Raises InvitationEnded, WeakPassword."""
    with session_scope(engine, read_only=True) as session:
        name = users.invited(session, secret, now)[0].name
    kept = passwords.prepare(password, name)
    with session_scope(engine) as session:
        return users.accept(session, secret, kept, now).id


def change_password(
    engine: Engine, user_id: str, *, present: str, wanted: str, now: datetime, session_id: str | None
) -> None:
    """Raises WrongPassword, WeakPassword. The session named stays, the user's others end."""
    with session_scope(engine, read_only=True) as session:
        user = users.get_user(session, user_id)
    before = user.password_hash
    if not passwords.is_right(present, before):
        _refuse()
    kept = passwords.prepare(wanted, user.name)
    with session_scope(engine) as session:
        user = _unchanged(session, user, before)
        users.set_password(session, user, kept, now, session_id=session_id)


def _unchanged(session: Session, seen: User, before: str | None) -> User:
    user = users.get_user(session, seen.id)
    if user.password_hash != before:
        _refuse()
    return user


def _refuse() -> None:
    words = "this is not your present password"
    raise WrongPassword(f"present: {words}", errors=[{"field": "present", "message": words}])
