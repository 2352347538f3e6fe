"""A node's life: listen first, load, serve, drain, end. One event loop; the engine has its own thread."""

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any

import structlog
import uvicorn
from fastapi import FastAPI

from inference_node.agent.agent import Agent, Enrolment
from inference_node.agent.keeper import SettingsKeeper
from inference_node.agent.store import StoredSettings
from inference_node.contract.messages import NodeRegistration, NodeState
from inference_node.contract.settings import EngineSettings
from inference_node.engine.errors import SettingsRefused
from inference_node.engine.serving import ServingEngine
from inference_node.errors import NodeError
from inference_node.readings import read
from inference_node.server.connection import ConnectionLimits, guarded
from inference_node.server.node import Node

# Given to answers that are already whole but not yet sent, after the engine has ended.
_FLUSH_S = 5

# (settings to start with, progress) to a loaded engine; runs in a thread of its own.
# From settings of an earlier run, or None for the configuration's.
Load = Callable[[EngineSettings | None, Callable[[str, float], None]], ServingEngine]

log = structlog.get_logger("node")


class PortTaken(NodeError):
    """Host and port cannot be listened on."""


def run_on_loop(work: Coroutine[Any, Any, int]) -> int:
    """`asyncio.run` on the loop that uvicorn prefers: uvloop, where it is installed."""
    with asyncio.Runner(loop_factory=uvicorn.Config(app="", log_config=None).get_loop_factory()) as runner:
        return runner.run(work)


def bind(host: str, port: int) -> socket.socket:
    """A bound, listening-to-be socket; port 0 picks a free one. Raises PortTaken, before anything heavy has been loaded."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family)
    try:
        # Lets a restarted node take its port at once, though old connections linger; a live listener still refuses.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(2048)
    except (OSError, OverflowError) as error:
        sock.close()
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise PortTaken(
            f"cannot listen on {host}:{port}: {reason}. Stop what uses it, or choose another (NODE_PORT, 0 picks a free one)."
        ) from None
    return sock


class _Server(uvicorn.Server):
    """uvicorn, but a signal asks the node to drain instead of closing the door on running streams."""

    def __init__(self, config: uvicorn.Config, on_signal: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_signal = on_signal

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # The base class would raise the signal again at the end, and the exit code would tell of a kill.
        self._on_signal()


class Lifecycle:
    """Runs one node from start to end."""

    def __init__(self, node: Node, app: FastAPI, sock: socket.socket, load: Load) -> None:
        self._node, self._app, self._sock, self._load = node, app, sock, load
        self._stop = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.settled = threading.Event()  # ready, or it never will be

    def stop(self) -> None:
        """Drain and end; from any thread, any number of times."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop.set)

    def _on_signal(self) -> None:
        if self._stop.is_set():
            os._exit(1)  # asked twice: whoever waits has lost patience with the drain
        self.stop()

    async def run(self) -> int:
        """Serve until stopped. The exit code: 0 after a drain, 2 when the node could not start."""
        self._loop = asyncio.get_running_loop()
        config = self._node.config
        limits = ConnectionLimits(config.client_timeout_s, config.max_connections)
        server = _Server(
            uvicorn.Config(
                self._app,
                log_config=None,
                access_log=False,
                lifespan="off",
                timeout_graceful_shutdown=_FLUSH_S,
                http=guarded(limits, self._node.metrics.count_cut),
                ws="none",  # a node has no web socket; this spares the library's upgrade path
                server_header=False,
            ),
            self._on_signal,
        )
        serving = asyncio.create_task(server.serve([self._sock]), name="http")
        log.info("node_listening", name=self._node.config.name, url=self._node.config.base_url)
        starting = asyncio.create_task(self._start(), name="start")
        stopping = asyncio.create_task(self._stop.wait(), name="wait for stop")
        agent: asyncio.Task[None] | None = None
        code = 0
        try:
            await asyncio.wait({starting, stopping, serving}, return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                log.info("stopped_while_loading")
                self._end_now()
            if (code := starting.result()) == 0:
                agent = self._start_agent()
                self.settled.set()
                await asyncio.wait({stopping, serving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.settled.set()
            await self._drain(agent)
            server.should_exit = True
            await serving
            stopping.cancel()
        return code

    async def _start(self) -> int:
        node, config = self._node, self._node.config
        stored = await asyncio.to_thread(node.store.load_settings)
        if stored is not None and stored.generation == 0 and not stored.drifted:
            stored = None  # nobody ever set anything here: the configuration speaks
        try:
            engine = await self._load_engine(stored)
        except NodeError as error:
            return self._fail(str(error))
        except Exception as error:  # whatever a broken model folder or library does, a person gets one line
            log.debug("load_failed", exc_info=error)
            return self._fail(f"the model could not be loaded: {type(error).__name__}: {error}")
        engine.start()
        node.engine = engine
        node.keeper = SettingsKeeper(engine, node.store, stored, count=node.metrics.count_change)
        keeper = node.keeper
        node.metrics.bind(engine.stats, lambda: keeper.observed.generation, engine.hardware, engine.settings)
        node.metrics.bind_step_error(engine.step_error)
        node.metrics.bind_quality(engine.quality)
        node.state, node.doing, node.progress = NodeState.READY, "", 1.0
        log.info(
            "node_ready",
            name=config.name,
            url=config.base_url,
            model=engine.model_name,
            precision=engine.settings.precision.value,
            generation=keeper.observed.generation,
        )
        for replica in engine.stats().replicas:
            log.info(
                "replica_ready",
                number=replica.number,
                threads=replica.threads,
                cpus=list(replica.cpus) or "any",
                numa_node=replica.numa_node,
            )
        self._background(keeper.resume())
        return 0

    async def _load_engine(self, stored: StoredSettings | None) -> ServingEngine:
        if stored is not None:
            try:
                return await self._in_thread(stored.settings)
            except SettingsRefused as error:
                log.warning("stored_settings_refused", reason=str(error), starts_with="the configured ones")
        return await self._in_thread(None)

    async def _in_thread(self, settings: EngineSettings | None) -> ServingEngine:
        """`load` in a daemon thread: a stop while it loads must not wait for it to end."""
        loop = asyncio.get_running_loop()
        result: asyncio.Future[ServingEngine] = loop.create_future()

        def tell(what: str, share: float) -> None:
            if what != self._node.doing:
                log.info("node_loading", doing=what, progress=round(share, 2))
            self._node.doing, self._node.progress = what, share

        def work() -> None:
            try:
                engine = self._load(settings, tell)
            except BaseException as error:  # noqa: BLE001 - handed over to the loop, which tells them apart
                loop.call_soon_threadsafe(result.set_exception, error)
            else:
                loop.call_soon_threadsafe(result.set_result, engine)

        threading.Thread(target=work, name="load", daemon=True).start()
        return await result

    def _fail(self, reason: str) -> int:
        self._node.state, self._node.doing = NodeState.FAILED, reason
        log.error("node_cannot_start", reason=reason)
        return 2

    def _start_agent(self) -> asyncio.Task[None] | None:
        node, config = self._node, self._node.config
        if config.controlplane_url is None or node.engine is None or node.keeper is None:
            return None
        enrolment = Enrolment(
            controlplane_url=config.controlplane_url,
            enrolment_token=config.enrolment_token.get_secret_value() if config.enrolment_token else None,
            describe=lambda: registration_of(node),
            state=lambda: node.state,
        )
        registry = node.metrics.registry
        node.agent = Agent(enrolment, node.engine, node.keeper, node.store, readings=lambda: read(registry))
        return asyncio.create_task(node.agent.run(), name="agent")

    async def _drain(self, agent: asyncio.Task[None] | None) -> None:
        node = self._node
        await asyncio.to_thread(node.recorder.close)
        if node.engine is None:
            return
        node.state, node.doing = NodeState.DRAINING, "finishing running requests"
        stats = node.engine.stats()
        log.info("draining", running=stats.running, waiting=stats.waiting, at_most_s=node.config.drain_s)
        if node.agent is not None:
            self._background(node.agent.farewell())
        await node.engine.shutdown(node.config.drain_s)
        if agent is not None:
            agent.cancel()
            await asyncio.gather(agent, return_exceptions=True)
        for task in list(self._tasks):
            task.cancel()
        log.info("node_stopped")

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)  # asyncio itself keeps only a weak hold of it
        task.add_done_callback(self._tasks.discard)

    def _end_now(self) -> None:
        """Loading cannot be interrupted from outside its thread, and nothing of it needs to be kept."""
        os._exit(0)


def registration_of(node: Node) -> NodeRegistration:
    """The node as it presents itself to its control plane. The node must have been ready."""
    engine, keeper = node.settled()
    config = node.config
    return NodeRegistration(
        name=config.name,
        pool=config.pool,
        fleet=config.fleet,
        model=engine.model_name,
        url=config.base_url,
        admin_token=node.admin_token,
        instance_id=node.instance_id,
        version=node.version,
        capabilities=engine.capabilities.model_copy(update={"quality": engine.quality()}),
        hardware=engine.hardware,
        settings=engine.settings,
        observed_generation=keeper.observed.generation,
        observed_epoch=keeper.epoch_seen,
        step_profile=engine.step_profile(),
    )
