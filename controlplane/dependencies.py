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
from controlplane.db import read_only, session_scope
from controlplane.settings import ControlPlaneSettings


async def _engine(connection: HTTPConnection) -> Engine:
    return cast(Engine, connection.app.state.engine)


async def _settings(connection: HTTPConnection) -> ControlPlaneSettings:
    return cast(ControlPlaneSettings, connection.app.state.settings)


async def _now(connection: HTTPConnection) -> datetime:
    return cast(Clock, connection.app.state.clock).now()


class ReadTurn:
    """The read-only session of a request. It holds a connection from its first query on: one thread's turn, not several."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._session: Session | None = None

    @property
    def session(self) -> Session:
        """Costs nothing yet: it connects with its first query."""
        if self._session is None:
            self._session = Session(read_only(self._engine), expire_on_commit=False)
        return self._session

    @property
    def is_under_way(self) -> bool:
        return self._session is not None and self._session.in_transaction()

    def end(self) -> None:
        if self._session is not None:
            self._session.close()


async def _read_turn(connection: HTTPConnection, engine: "DatabaseEngine") -> AsyncIterator[ReadTurn]:
    turn = ReadTurn(engine)
    try:
        yield turn
    finally:
        if turn.is_under_way:
            with CancelScope(shield=True):  # also when the client has gone meanwhile
                await to_thread.run_sync(turn.end, limiter=cast(CapacityLimiter, connection.app.state.ends))


async def _read_session(turn: "Reading") -> Session:
    return turn.session


def _write_session(engine: "DatabaseEngine") -> Iterator[Session]:
    with session_scope(engine) as session:
        yield session


DatabaseEngine = Annotated[Engine, Depends(_engine)]
ProcessSettings = Annotated[ControlPlaneSettings, Depends(_settings)]
Now = Annotated[datetime, Depends(_now)]
Reading = Annotated[ReadTurn, Depends(_read_turn, scope="function")]
ReadSession = Annotated[Session, Depends(_read_session, scope="function")]
WriteSession = Annotated[Session, Depends(_write_session, scope="function")]
