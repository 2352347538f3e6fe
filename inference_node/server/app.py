"""The node's doors: `create_app` puts the API together, `run_node` and `serve` run it as a process or inside one."""

import sys
import threading
from collections.abc import Callable
from importlib import metadata
from typing import IO, Self

import structlog
from fastapi import FastAPI

from inference_node.agent.store import NodeStore
from inference_node.config import ConfigInvalid, NodeConfig
from inference_node.contract.settings import EngineSettings
from inference_node.engine.serving import ServingEngine
from inference_node.errors import NodeError
from inference_node.metrics import NodeMetrics
from inference_node.server import problems
from inference_node.server.control_api import control_router
from inference_node.server.lifecycle import Lifecycle, Load, bind, run_on_loop
from inference_node.server.middleware import BodyLimit, RequestId
from inference_node.server.node import Node
from inference_node.server.openai_api import openai_router
from inference_node.server.probes import probes_router
from inference_node.server.profiling_api import profiling_router

MAX_BODY_BYTES = 4 * 1024 * 1024
# A busy event loop gives Python's lock back to the engine's thread after this time at the latest, not after the usual 5 ms.
_SWITCH_S = 0.0002
_ANY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104 - recognised here, not bound

log = structlog.get_logger("node")


class ServeFailed(NodeError):
    """The server inside this process ended before it was ready; the log says why."""


def create_app(node: Node) -> FastAPI:
    """The HTTP API of one node. It answers before the engine is there: probes say so, the rest is 503."""
    app = FastAPI(
        title="Trimtab inference node",
        version=node.version,
        docs_url=None,  # the page would load its scripts from another host
        redoc_url=None,
    )
    problems.install(app, node)
    app.include_router(openai_router(node))
    app.include_router(probes_router(node))
    app.include_router(control_router(node))
    app.include_router(profiling_router(node))
    app.add_middleware(BodyLimit, limit=MAX_BODY_BYTES)
    app.add_middleware(RequestId)
    return app


def run_node(config: NodeConfig) -> int:
    """Load the configured model and serve it until SIGTERM or SIGINT. Returns the exit code: 0 drained, 2 could not start.

    The port is taken before the model loads, and `/livez` answers while it does. Never raises NodeError: it is one log line.
    """
    sys.setswitchinterval(_SWITCH_S)
    try:
        with _Holding(config) as holding:
            lifecycle = holding.lifecycle(_loader(holding.node))
            return run_on_loop(lifecycle.run())
    except NodeError as error:
        log.error("node_cannot_start", reason=str(error))
        return 2


def serve(engine: ServingEngine, config: NodeConfig, *, metrics: NodeMetrics | None = None) -> int:
    """Serve an engine that is loaded but not started, until SIGTERM or SIGINT. Raises PortTaken, StoreInUse.

    `metrics` are those that the engine was loaded with as its listener; without, the engine's counters stay at 0.
    """
    with _Holding(config, metrics) as holding:
        return run_on_loop(holding.lifecycle(lambda settings, progress: engine).run())


def serve_in_background(
    engine: ServingEngine, config: NodeConfig, *, metrics: NodeMetrics | None = None, timeout_s: float = 60.0
) -> "Served":
    """As `serve`, in a thread of its own; returns once the node is ready. Raises PortTaken, StoreInUse, ServeFailed."""
    holding = _Holding(config, metrics)
    return Served(holding, holding.lifecycle(lambda settings, progress: engine), timeout_s)


class Served:
    """A node served inside this process. `close()` drains and ends it; also a context manager."""

    def __init__(self, holding: "_Holding", lifecycle: Lifecycle, timeout_s: float) -> None:
        self._holding, self._lifecycle = holding, lifecycle
        self._thread = threading.Thread(target=lambda: run_on_loop(lifecycle.run()), name="node", daemon=True)
        self._thread.start()
        lifecycle.settled.wait(timeout_s)
        if not holding.node.is_ready:
            self.close()
            raise ServeFailed(f"the node did not become ready: {holding.node.doing}")

    @property
    def url(self) -> str:
        return self._holding.node.config.base_url

    @property
    def admin_token(self) -> str:
        return self._holding.node.admin_token

    def close(self) -> None:
        """Drain for up to `drain_s`, then end. Again does nothing."""
        self._lifecycle.stop()
        self._thread.join()
        self._holding.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Holding:
    """What a node holds outside its memory: the port and its folder, both taken before anything heavy begins."""

    def __init__(self, config: NodeConfig, metrics: NodeMetrics | None = None) -> None:
        if config.controlplane_url is not None and config.url is None and config.host in _ANY_ADDRESS:
            raise ConfigInvalid(
                f"listening on {config.host}, the node cannot tell the control plane its address: set NODE_URL, "
                "say http://gpu-7:8000"
            )
        store = NodeStore(config.data_dir / "nodes" / config.name)
        self._sock = bind(config.host, config.port)
        try:
            self._lock: IO[str] = store.lock()
            token = store.admin_token()
        except NodeError:
            self._sock.close()
            raise
        except OSError as error:
            self._sock.close()
            raise ConfigInvalid(
                f"the data folder {store.folder} cannot be used: {error.strerror}. Choose another with NODE_DATA_DIR."
            ) from None
        version = metadata.version("trimtab")
        config = config.model_copy(update={"port": self._sock.getsockname()[1]})
        self.node = Node(
            config=config,
            store=store,
            metrics=metrics or NodeMetrics(config.model_name, version),
            admin_token=token,
            version=version,
        )
        self.node.metrics.bind_ready(lambda: self.node.is_ready)

    def lifecycle(self, load: Load) -> Lifecycle:
        return Lifecycle(self.node, create_app(self.node), self._sock, load)

    def release(self) -> None:
        self._sock.close()
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _loader(node: Node) -> Load:
    def load(settings: EngineSettings | None, progress: Callable[[str, float], None]) -> ServingEngine:
        # Loads torch, seconds of work: only here, in the loading thread, when the port is already served.
        from inference_node.engine.async_engine import AsyncEngine  # noqa: PLC0415

        return AsyncEngine.load(node.config, settings, listener=node.metrics, progress=progress)

    return load
