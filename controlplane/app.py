"""The API process: `create_app()` puts the rooms together, `serve()` runs them under uvicorn."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import structlog
import uvicorn
from anyio import CapacityLimiter
from fastapi import FastAPI
from fastapi.routing import APIRoute
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from controlplane import api, docs, metrics, middleware, probes, problem, schema, ui
from controlplane.accounts import access
from controlplane.accounts import service as accounts
from controlplane.accounts.known import Known
from controlplane.accounts.oidc.terms import Provider
from controlplane.accounts.throttle import RequestThrottle, SignInThrottle
from controlplane.background import repeat
from controlplane.clock import Clock, SystemClock
from controlplane.db import engine_of, session_scope
from controlplane.errors import Invalid
from controlplane.events import stream
from controlplane.fleets import watch
from controlplane.idempotency import route as idempotency
from controlplane.memory import settle
from controlplane.outside import Outside
from controlplane.overview import ObservationTicks
from controlplane.pool_of import pool_of
from controlplane.processes import service as processes
from controlplane.resealing import reseal
from controlplane.sealing import ring_of
from controlplane.settings import ControlPlaneSettings
from controlplane.version import program_version

log = structlog.get_logger(__name__)

BEAT_S = 10.0
GRACE_S = 3  # after a signal, for requests under way


class _Api(FastAPI):
    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            self.openapi_schema = access.describe(problem.describe(super().openapi()), self.routes)
        return self.openapi_schema


def create_app(settings: ControlPlaneSettings, *, clock: Clock | None = None) -> FastAPI:
    """The API and web app. The database is opened, and its version checked, when the application starts."""
    app = _Api(
        title="Trimtab",
        version=program_version(),
        summary="Control plane for self-tuning LLM inference fleets",
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=_operation_id,
    )
    app.state.settings = settings
    app.state.clock = clock or SystemClock()
    app.state.known = Known()
    app.state.sign_in_throttle = SignInThrottle()
    app.state.request_throttle = RequestThrottle(settings.requests_per_s, max(1, round(2 * settings.requests_per_s)))
    app.state.pool_of = pool_of
    app.state.outside = Outside(settings)
    app.state.oidc = _identity_provider(settings)
    app.include_router(api.router)
    app.include_router(probes.router)
    app.include_router(docs.router)
    ui.mount(app)
    problem.install(app, ui.page_for)
    idempotency.install(app)
    app.add_middleware(middleware.BodyLimit)
    app.add_middleware(middleware.RequestContext)
    return app


def _identity_provider(settings: ControlPlaneSettings) -> Provider | None:
    """Raises Invalid where one is named and what speaks to it is not installed."""
    if settings.oidc_issuer is None:
        return None
    try:
        from controlplane.accounts.oidc.provider import OpenIdProvider  # noqa: PLC0415 (an extra)
    except ModuleNotFoundError as error:
        raise Invalid(
            f"CONTROLPLANE_OIDC_ISSUER is set, and {error.name} is not installed: pip install 'trimtab[oidc]'"
        ) from None
    return OpenIdProvider(settings)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: ControlPlaneSettings = app.state.settings
    engine = engine_of(settings)
    async with AsyncExitStack() as stack:
        stack.callback(engine.dispose)
        await asyncio.to_thread(_prepare, engine, settings, app.state.clock)
        app.state.engine = engine
        # Threads of their own: what gives connections back never waits behind those who wait for one.
        app.state.ends = CapacityLimiter(8)
        app.state.metrics = CollectorRegistry()
        metrics.register(app.state.metrics, engine, settings, app.state.clock, version=program_version())
        app.state.event_fan_out = stream.EventFanOut(engine, extra=ObservationTicks())
        app.state.desired_watch = watch.DesiredWatch(engine)
        name = processes.process_name("api")
        beat = _beat(engine, app.state.clock, name, settings)
        for work in (
            repeat("event stream", stream.POLL_S, app.state.event_fan_out.poll),
            repeat("desired watch", watch.POLL_S, app.state.desired_watch.poll),
            repeat("heartbeat", BEAT_S, lambda: asyncio.to_thread(beat)),
        ):
            stack.push_async_callback(_stop, asyncio.create_task(work))
        stack.callback(_sign_off, engine, name)
        stack.callback(close_waiting, app)
        log.info("api_started", url=settings.base_url, database=engine.dialect.name, version=program_version())
        yield


def close_waiting(app: FastAPI) -> None:
    """Ends streams and long polls, which would keep the server from stopping."""
    app.state.event_fan_out.close()
    app.state.desired_watch.close()


def _prepare(engine: Engine, settings: ControlPlaneSettings, clock: Clock) -> None:
    schema.check(engine)
    if settings.admin_token is not None:
        with session_scope(engine) as session:
            accounts.ensure_admin_token(session, settings.admin_token, clock.now())
    # What another process seals with a newer key is left alone: this one may be the last that has the older.
    with session_scope(engine) as session:
        found = reseal(session, only_clear=True)
    if found.in_clear and ring_of(engine.dialect):
        log.info("secrets_sealed", secrets=found.in_clear)
    elif found.in_clear:
        log.warning("secrets_in_clear", secrets=found.in_clear, do="set CONTROLPLANE_SECRET_KEY_FILE: docs/access.md")


def _beat(engine: Engine, clock: Clock, name: str, settings: ControlPlaneSettings) -> Callable[[], None]:
    started_at = clock.now()
    detail = {"url": settings.base_url, "version": program_version()}

    def beat() -> None:
        with session_scope(engine) as session:
            processes.beat(session, name=name, kind="api", now=clock.now(), detail=detail, started_at=started_at)

    return beat


def _sign_off(engine: Engine, name: str) -> None:
    try:
        with session_scope(engine) as session:
            processes.sign_off(session, name)
    except SQLAlchemyError as error:
        log.warning("sign_off_failed", error=str(error))  # the row grows old by itself


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


def _operation_id(route: APIRoute) -> str:
    return route.name


class Server(uvicorn.Server):
    """Ends what waits before uvicorn waits for it: it tells the application only once all connections are closed."""

    def __init__(self, app: FastAPI, settings: ControlPlaneSettings, *, owns_process: bool = False) -> None:
        """owns_process: nothing else runs in it, so that its memory may be settled."""
        super().__init__(
            uvicorn.Config(
                app,
                host=settings.host,
                port=settings.port,
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=GRACE_S,
            )
        )
        self._app = app
        self._owns_process = owns_process

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._owns_process:
            settle()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        close_waiting(self._app)
        await super().shutdown(sockets)


def serve(settings: ControlPlaneSettings) -> None:
    """Runs the API until SIGINT or SIGTERM. Raises SchemaOlder, SchemaNewer or DatabaseUnreachable before anything is bound."""
    engine = engine_of(settings)
    try:
        schema.check(engine)
    finally:
        engine.dispose()
    Server(create_app(settings), settings, owns_process=True).run()
