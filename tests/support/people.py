"""Somebody who was set up before, for tests that are about something else."""

from datetime import UTC, datetime

from sqlalchemy import Engine

from controlplane.accounts import users
from controlplane.accounts.passwords import PasswordHash
from controlplane.db import session_scope


def add_admin(engine: Engine, name: str = "ada") -> None:
    """An admin whose password nobody knows: the web app asks for no set-up any more."""
    with session_scope(engine) as session:
        users.add_first_admin(session, name=name, kept=PasswordHash("no hash"), now=datetime.now(UTC))
