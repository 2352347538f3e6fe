"""A small real control plane over HTTP: the three agent endpoints, with the state of one node in memory.

Steered from the test: what it desires, what it refuses, and whether it is there at all. It runs on a thread of its own, so a
node in the test's event loop speaks to it over a real socket.
"""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated

import uvicorn
from fastapi import FastAPI, Header, HTTPException, Response

from inference_node.contract.history import HistoryTaken, NodeHistory
from inference_node.contract.messages import (
    Heartbeat,
    HeartbeatReply,
    NodeRegistered,
    NodeRegistration,
    SettingsPush,
)
from inference_node.contract.served import ServedWatch
from inference_node.contract.settings import EngineSettings
from inference_node.contract.signing import signed

ENROLMENT_TOKEN = "enrol-me"
NODE_ID = "node-id-1"


def push_of(
    settings: EngineSettings,
    generation: int,
    *,
    epoch: int = 1,
    node_id: str = NODE_ID,
    force: bool = False,
    lease_s: float | None = None,
    fallback: EngineSettings | None = None,
) -> SettingsPush:
    """A well-formed push of these settings; with a lease, an experiment."""
    return SettingsPush(
        node_id=node_id,
        generation=generation,
        epoch=epoch,
        revision=generation,
        config_hash=settings.content_hash(),
        settings=settings,
        force=force,
        lease_s=lease_s,
        fallback=fallback,
        issued_at=datetime.now(UTC),
    )


class FakeControlPlane:
    """See the module. Public attributes may be set and read from any thread."""

    def __init__(self) -> None:
        self.registrations: list[NodeRegistration] = []
        self.heartbeats: list[Heartbeat] = []
        self.histories: list[NodeHistory] = []
        self.asked_after: list[int] = []
        self.desired: SettingsPush | None = None
        self.watch: ServedWatch | None = None
        self.refuse_enrolment = False
        self.token = "node-token-1"
        self.heartbeat_s = 0.05
        self.broken = False  # answers 500 to everything
        self.signs = True  # what it desires
        self.url = ""
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._port = 0

    def start(self) -> None:
        """Again after `stop`, on the same port."""
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", self._port))
        self._port = sock.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        server = uvicorn.Server(
            uvicorn.Config(self._app(), log_config=None, lifespan="off", timeout_graceful_shutdown=1)
        )
        self._server = server
        self._thread = threading.Thread(target=lambda: asyncio.run(server.serve([sock])), daemon=True)
        self._thread.start()
        wait_for(lambda: server.started)

    def stop(self) -> None:
        """Gone: connections are refused."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join()
            self._server = self._thread = None

    @property
    def last_heartbeat(self) -> Heartbeat:
        return self.heartbeats[-1]

    def _app(self) -> FastAPI:
        app = FastAPI()
        base = "/api/v1/agents"

        def check(authorization: str, wanted: str) -> None:
            if self.broken:
                raise HTTPException(500, "out of order")
            if authorization != f"Bearer {wanted}":
                raise HTTPException(401, "unknown token")

        @app.post(f"{base}/register")
        def register(body: NodeRegistration, authorization: Annotated[str, Header()] = "") -> NodeRegistered:
            check(authorization, ENROLMENT_TOKEN)
            if self.refuse_enrolment:
                raise HTTPException(403, "this pool takes no more nodes")
            self.registrations.append(body)
            return NodeRegistered(
                node_id=NODE_ID, token=self.token, heartbeat_interval_s=self.heartbeat_s, long_poll_s=1.0
            )

        @app.post(base + "/{node_id}/heartbeat")
        def heartbeat(node_id: str, body: Heartbeat, authorization: Annotated[str, Header()] = "") -> HeartbeatReply:
            check(authorization, self.token)
            self.heartbeats.append(body)
            desired = self.desired
            return HeartbeatReply(desired_generation=desired.generation if desired else 0, watch=self.watch)

        @app.post(base + "/{node_id}/history")
        def history(node_id: str, body: NodeHistory, authorization: Annotated[str, Header()] = "") -> HistoryTaken:
            check(authorization, self.token)
            self.histories.append(body)
            return HistoryTaken(number=body.number, new=True)

        @app.get(base + "/{node_id}/desired", response_model=None)
        async def desired(
            node_id: str, after: int, wait_s: float, authorization: Annotated[str, Header()] = ""
        ) -> Response | SettingsPush:
            check(authorization, self.token)
            self.asked_after.append(after)
            until = time.monotonic() + wait_s
            while time.monotonic() < until:
                if self.desired is not None and self.desired.generation > after:
                    known = self.registrations and self.signs
                    return signed(self.desired, self.registrations[-1].admin_token) if known else self.desired
                await asyncio.sleep(0.01)
            return Response(status_code=204)

        return app


@contextmanager
def fake_controlplane() -> Iterator[FakeControlPlane]:
    plane = FakeControlPlane()
    plane.start()
    try:
        yield plane
    finally:
        plane.stop()


def wait_for(condition: Callable[[], object], timeout_s: float = 20.0) -> None:
    """Until `condition` holds; for threads and processes. Fails the test with the condition's place when it never does."""
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, f"not within {timeout_s} s: {condition}"
        time.sleep(0.01)


async def eventually(condition: Callable[[], object], timeout_s: float = 20.0) -> None:
    """As `wait_for`, on the event loop."""
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, f"not within {timeout_s} s: {condition}"
        await asyncio.sleep(0.005)
