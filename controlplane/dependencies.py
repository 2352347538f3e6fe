"""What endpoints are handed: a session that is one transaction, the time, the process's settings.

What waits for nothing is `async`: each of the others is taken through a thread of FastAPI's pool and back.

A transaction ends when the endpoint's function returns and before its answer is sent, so that who reads the answer finds
what it tells of, and a commit that fails is an error answer.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, cast

from fastapi import Depends
from sqlalchemy import Engine
from sqlalchemy.orm import Session
from starlette.requests import HTTPConnection

from controlplane.clock import Clock
from controlplane.db import session_scope
from controlplane.settings import ControlPlaneSettings


async def _engine(connection: HTTPConnection) -> Engine:
    return cast(Engine, connection.app.state.engine)


async def _settings(connection: HTTPConnection) -> ControlPlaneSettings:
    return cast(ControlPlaneSettings, connection.app.state.settings)


async def _now(connection: HTTPConnection) -> datetime:
    return cast(Clock, connection.app.state.clock).now()


def _read_session(engine: "DatabaseEngine") -> Iterator[Session]:
    with session_scope(engine, read_only=True) as session:
        yield session


def _write_session(engine: "DatabaseEngine") -> Iterator[Session]:
    with session_scope(engine) as session:
        yield session


DatabaseEngine = Annotated[Engine, Depends(_engine)]
ProcessSettings = Annotated[ControlPlaneSettings, Depends(_settings)]
Now = Annotated[datetime, Depends(_now)]
ReadSession = Annotated[Session, Depends(_read_session, scope="function")]
WriteSession = Annotated[Session, Depends(_write_session, scope="function")]
