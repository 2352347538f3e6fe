"""What endpoints are handed: a session that is one transaction, the time, the process's settings.

What waits for nothing is `async`: each of the others is taken through a thread of FastAPI's pool and back.

A transaction ends when the endpoint's function returns and before its answer is sent, so that who reads the answer finds
what it tells of, and a commit that fails is an error answer.
"""

from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from typing import Annotated, cast

from anyio import CancelScope, CapacityLimiter, to_thread
from fastapi import Depends
from sqlalchemy import Engine
from sqlalchemy.orm import Session
from starlette.requests import HTTPConnection

from controlplane.clock import Clock
from controlplane.db import for_reading, session_scope
from controlplane.settings import ControlPlaneSettings


async def _engine(connection: HTTPConnection) -> Engine:
    return cast(Engine, connection.app.state.engine)


async def _settings(connection: HTTPConnection) -> ControlPlaneSettings:
    return cast(ControlPlaneSettings, connection.app.state.settings)


async def _now(connection: HTTPConnection) -> datetime:
    return cast(Clock, connection.app.state.clock).now()


async def _read_session(connection: HTTPConnection, engine: "DatabaseEngine") -> AsyncIterator[Session]:
    """It holds a connection from its first query on: that of the endpoint, which is one thread's turn."""
    session = Session(for_reading(engine), expire_on_commit=False)
    try:
        yield session
    finally:
        if session.in_transaction():
            with CancelScope(shield=True):  # also when the client has gone meanwhile
                await to_thread.run_sync(session.close, limiter=cast(CapacityLimiter, connection.app.state.ends))


def _write_session(engine: "DatabaseEngine") -> Iterator[Session]:
    with session_scope(engine) as session:
        yield session


DatabaseEngine = Annotated[Engine, Depends(_engine)]
ProcessSettings = Annotated[ControlPlaneSettings, Depends(_settings)]
Now = Annotated[datetime, Depends(_now)]
ReadSession = Annotated[Session, Depends(_read_session, scope="function")]
WriteSession = Annotated[Session, Depends(_write_session, scope="function")]
