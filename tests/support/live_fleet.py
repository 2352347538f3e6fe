"""The control plane for real: API, controller and worker as processes of their own, Redis, Prometheus, and fake nodes."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import psutil

from controlplane.decisions.policy import Autonomy, OnInconclusive, Policy, RolloutPolicy
from inference_node.contract.settings import KNOBS
from tests.support.database import sqlite_url
from tests.support.fleet import clean_environment, until
from tests.support.ports import free_port
from tests.support.prometheus_server import prometheus_server
from tests.support.redis_server import RedisServer

ADMIN_TOKEN = "tt_admin_token_for_tests_0123456789"
ENROLMENT_TOKEN = "enrolment-token-for-tests"
POOL = "lab"
SCRAPE_S = 0.25
HEARTBEAT_TIMEOUT_S = 8.0
READY_WITHIN_S = 90.0
ENDED = {"COMPLETED", "ROLLED_BACK", "ROLLBACK_FAILED", "REJECTED", "CANCELLED", "EXPIRED", "SUPERSEDED"}

# A whole rollout in about twelve seconds: seven windows are the fewest that the analysis' confidence can do with.
POLICY = Policy(
    autonomy=dict.fromkeys(KNOBS, Autonomy.OFF),
    rollout=RolloutPolicy(
        window_s=1.0, windows=7, settle_s=1.0, min_requests=20, on_inconclusive=OnInconclusive.PROMOTE,
        progress_deadline_s=25.0, bake_s=1.0, margin=0.25, quarantine_s=0.0,
    ),
)  # fmt: skip


class Process:
    """One of our processes: its own group, so that a kill of the parent can leave its children behind, as a crash would."""

    def __init__(self, name: str, command: list[str], environment: Mapping[str, str], log: Path) -> None:
        self.name, self._command, self._environment, self._log = name, command, environment, log
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()  # the supervisor must not start again what a test is just killing
        self.is_wanted = True
        self.start()

    def start(self) -> None:
        with self._lock:
            self._start()

    def revive(self) -> bool:
        """Starts it again if it has ended by itself; whether it had."""
        with self._lock:
            if not self.is_wanted or self.is_running:
                return False
            self._start()
            return True

    def _start(self) -> None:
        self.is_wanted = True
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env=dict(self._environment), stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.pid).children(recursive=True)

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        with self._lock:
            assert self._process is not None
            if number is signal.SIGKILL:
                self.is_wanted = False
            self._process.send_signal(number)
            if number is signal.SIGKILL:
                self._process.wait(10)

    def restart(self) -> None:
        self.kill()
        self.start()

    def close(self) -> None:
        with self._lock:
            self.is_wanted = False
        if self._process is None:
            return
        if self.is_running:
            self._process.terminate()
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()

    def log(self) -> str:
        return self._log.read_text(errors="replace")


class LiveFleet:
    """`api` is signed in as admin. Parts are started by `live_fleet`; a test kills and restarts them by name."""

    def __init__(self, folder: Path, redis: RedisServer, prometheus_url: str, port: int, stack: ExitStack) -> None:
        self.folder, self.redis, self.url = folder, redis, f"http://127.0.0.1:{port}"
        self.environment = clean_environment() | {
            "CONTROLPLANE_DATABASE_URL": sqlite_url(folder),
            "CONTROLPLANE_REDIS_URL": redis.url,
            "CONTROLPLANE_PROMETHEUS_URL": prometheus_url,
            "CONTROLPLANE_PORT": str(port),
            "CONTROLPLANE_ADMIN_TOKEN": ADMIN_TOKEN,
            "CONTROLPLANE_ENROLMENT_TOKEN": ENROLMENT_TOKEN,
            "CONTROLPLANE_TICK_S": "2",
            "CONTROLPLANE_WINDOW_S": "2",
            "CONTROLPLANE_SCRAPE_INTERVAL_S": str(SCRAPE_S),
            "CONTROLPLANE_RECONCILE_S": "0.5",
            "CONTROLPLANE_LEASE_S": "5",
            "CONTROLPLANE_HEARTBEAT_TIMEOUT_S": str(HEARTBEAT_TIMEOUT_S),
        }
        self._stack = stack
        self.parts: dict[str, Process] = {}
        self.restarted: list[str] = []
        self._ended = threading.Event()
        self.client = stack.enter_context(
            httpx2.Client(
                base_url=f"{self.url}/api/v1",
                headers={"Authorization": f"Bearer {ADMIN_TOKEN}"},
                timeout=30,
                trust_env=False,
            )
        )

    # Parts -------------------------------------------------------------------------------------------------------

    def add(self, name: str, *command: str, **environment: str) -> Process:
        logs = self.folder / "logs"
        logs.mkdir(exist_ok=True)
        process = Process(name, [sys.executable, *command], self.environment | environment, logs / f"{name}.log")
        self._stack.callback(process.close)
        self.parts[name] = process
        return process

    def add_node(self, name: str) -> Process:
        return self.add(
            name, "-m", "tests.support.fake_node",
            NODE_MODEL="/nowhere", NODE_NAME=name, NODE_POOL=POOL, NODE_PORT=str(free_port()),
            NODE_CONTROLPLANE_URL=self.url, NODE_ENROLMENT_TOKEN=ENROLMENT_TOKEN, NODE_DRAIN_S="0",
            NODE_DATA_DIR=str(self.folder / "data"),
        )  # fmt: skip

    def supervise(self) -> None:
        """Starts again what has ended by itself, as `trimtab up` and systemd do: a worker may end so that a fresh one begins."""
        while not self._ended.wait(0.5):
            for process in list(self.parts.values()):
                if process.revive():
                    self.restarted.append(process.name)

    def end(self) -> None:
        self._ended.set()

    # What the API says -------------------------------------------------------------------------------------------

    def get(self, path: str, **query: Any) -> Any:
        return self.client.get(path, params=query).raise_for_status().json()

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        response = self.client.post(path, json=body)
        assert response.is_success, f"{path}: {response.status_code} {response.text}"
        return response.json()

    @property
    def pool(self) -> Any:
        return self.get("/pools")["items"][0]

    def nodes(self) -> dict[str, Any]:
        return {node["name"]: node for node in self.get("/nodes")["items"]}

    def begin(self, max_batch_size: int, reason: str = "test") -> str:
        body = {"pool_id": self.pool["id"], "settings": {"max_batch_size": max_batch_size}, "reason": reason}
        return str(self.post("/rollouts", body)["id"])

    def rollout(self, rollout_id: str) -> Any:
        return self.get(f"/rollouts/{rollout_id}")

    def wait_phase(self, rollout_id: str, *phases: str, within_s: float = 60.0) -> Any:
        """The rollout, once it is in one of `phases`; fails at once when it has ended in another."""

        def there() -> Any:
            found = self._try_rollout(rollout_id)
            if found is None:
                return None
            if found["phase"] in phases:
                return found
            assert found["phase"] not in ENDED, f"ended as {found['phase']}: {found['outcome']}"
            return None

        return until(there, within_s, f"rollout in {' or '.join(phases)}; {self._try_rollout(rollout_id)}")

    def wait_end(self, rollout_id: str, within_s: float = 60.0) -> Any:
        def ended() -> Any:
            found = self._try_rollout(rollout_id)
            return found if found is not None and found["phase"] in ENDED else None

        return until(ended, within_s, "the rollout's end")

    def wait_in_sync(self, within_s: float = 30.0) -> dict[str, Any]:
        """Every node ready and with what is desired of it."""

        def settled() -> dict[str, Any] | None:
            try:
                nodes = self.nodes()
            except httpx2.HTTPError:
                return None
            return nodes if all(n["health"] == "ready" and n["in_sync"] for n in nodes.values()) else None

        found: dict[str, Any] = until(settled, within_s, "desired = observed on every node")
        return found

    def _try_rollout(self, rollout_id: str) -> Any:
        try:
            return self.rollout(rollout_id)
        except httpx2.HTTPError:
            return None  # the API itself may be what was killed


@contextmanager
def live_fleet(
    folder: Path, *, nodes: int = 2, policy: Policy = POLICY, environment: Mapping[str, str] | None = None
) -> Iterator[LiveFleet]:
    """Everything up, the policy set, and enough metrics for a baseline. environment: besides what every part gets."""
    with ExitStack() as stack:
        redis = RedisServer(folder / "redis")
        stack.callback(redis.close)
        port = free_port()
        sd = (f"http://127.0.0.1:{port}/api/v1/sd/prometheus", ENROLMENT_TOKEN)
        prometheus = stack.enter_context(
            prometheus_server(folder / "prometheus", scrape_interval_s=SCRAPE_S, http_sd=sd)
        )
        fleet = LiveFleet(folder, redis, prometheus.url, port, stack)
        fleet.environment |= environment or {}
        fleet.add("api", "-P", "-m", "trimtab", "api")
        for name in ("controller", "worker"):
            fleet.add(name, "-P", "-m", "trimtab", name)
        for number in range(1, nodes + 1):
            fleet.add_node(f"node-{number}")
        until(lambda: _is_up(fleet, nodes), READY_WITHIN_S, "the fleet to be up")
        _set_policy(fleet, policy)
        supervisor = threading.Thread(target=fleet.supervise, name="supervisor", daemon=True)
        supervisor.start()
        try:
            yield fleet
        finally:
            fleet.end()
            supervisor.join()


def _is_up(fleet: LiveFleet, nodes: int) -> bool:
    for part in fleet.parts.values():
        assert part.is_running, f"{part.name} has ended:\n{part.log()[-3000:]}"
    try:
        kinds = {process["kind"] for process in fleet.get("/system")["processes"]}
        ready = [node for node in fleet.nodes().values() if node["health"] == "ready" and node["in_sync"]]
    except httpx2.HTTPError:
        return False
    return kinds >= {"api", "controller", "worker"} and len(ready) == nodes


def _set_policy(fleet: LiveFleet, policy: Policy) -> None:
    path = f"/pools/{fleet.pool['id']}/policy"
    etag = fleet.client.get(path).headers["etag"]
    fleet.client.put(path, json=policy.to_json(), headers={"If-Match": etag}).raise_for_status()


def let_pass(seconds: float) -> None:
    """For what has no condition to wait on: that something does NOT happen."""
    time.sleep(seconds)
