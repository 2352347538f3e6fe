"""The processes of a local fleet: command line, environment, and how each shows that it is ready."""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import httpx2

from inference_node.contract.settings import EngineSettings
from trimtab.one_thread import ONE_THREAD
from trimtab.supervisor.children import Probe, Spawned, Spec
from trimtab.supervisor.credentials import Credentials
from trimtab.supervisor.folder import DataFolder
from trimtab.supervisor.ports import HOST, Ports

FLEET = "local"
POOL = "demo"
# So small a batch serves calm traffic well, and a surge only once the tuner has raised it.
INITIAL_SETTINGS = EngineSettings(max_batch_size=4)
# The control plane at the pace of a demonstration: a window of 5 s holds five scrapes, so that rates over one window are
# near exact; a scrape of a node costs it some milliseconds.
PACE = {"CONTROLPLANE_TICK_S": "5", "CONTROLPLANE_WINDOW_S": "5", "CONTROLPLANE_SCRAPE_INTERVAL_S": "1"}
KV_TOKENS = 16_384  # 64 sequences of 256 tokens, about 0.4 GB for the demo model
NODE_DRAIN_S = 4.0
PASSED_ON = ("CONTROLPLANE_MESH_", "CONTROLPLANE_KUBERNETES_", "CONTROLPLANE_OIDC_")


@dataclass(frozen=True, slots=True)
class Addresses:
    api: str
    nodes: dict[str, str]
    prometheus: str
    redis: str

    @classmethod
    def of(cls, ports: Ports, *, prometheus: str, redis: str) -> "Addresses":
        nodes = {f"node-{number}": f"http://{HOST}:{port}" for number, port in enumerate(ports.nodes, start=1)}
        return cls(f"http://{HOST}:{ports.api}", nodes, prometheus, redis)


@dataclass(frozen=True, slots=True)
class Fleet:
    """Everything that the processes are told."""

    folder: DataFolder
    ports: Ports
    addresses: Addresses
    credentials: Credentials
    http: httpx2.AsyncClient  # for the signs of readiness

    def controlplane_env(self) -> dict[str, str]:
        """Environment of API, controller, worker and migration. What the user set of `PACE`, the database, the
        mesh or the identity provider stays."""
        defaults = {**PACE, "CONTROLPLANE_DATABASE_URL": self.folder.database_url}
        return {
            **_base_env(),
            **{name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)},
            **{name: os.environ.get(name, value) for name, value in defaults.items()},
            "CONTROLPLANE_REDIS_URL": self.addresses.redis,
            "CONTROLPLANE_PROMETHEUS_URL": self.addresses.prometheus,
            "CONTROLPLANE_HOST": HOST,
            "CONTROLPLANE_PORT": str(self.ports.api),
            "CONTROLPLANE_PUBLIC_URL": self.addresses.api,
            "CONTROLPLANE_ENROLMENT_TOKEN": self.credentials.enrolment_token,
            "CONTROLPLANE_ADMIN_TOKEN": self.credentials.admin_token,
            "CONTROLPLANE_AUDIT_KEY": self.credentials.audit_key,
            "CONTROLPLANE_SECRET_KEYS": self.credentials.secret_key,
            "CONTROLPLANE_DATA_DIR": str(self.folder.root),
        }

    def node_env(self, name: str, port: int, model: Path, served_name: str | None) -> dict[str, str]:
        env = {
            **_base_env(),
            "NODE_MODEL": str(model),
            "NODE_NAME": name,
            "NODE_POOL": POOL,
            "NODE_FLEET": FLEET,
            "NODE_HOST": HOST,
            "NODE_PORT": str(port),
            "NODE_URL": self.addresses.nodes[name],
            "NODE_CONTROLPLANE_URL": self.addresses.api,
            "NODE_ENROLMENT_TOKEN": self.credentials.enrolment_token,
            "NODE_DATA_DIR": str(self.folder.root),
            "NODE_THREADS": os.environ.get("NODE_THREADS", "1"),
            "NODE_KV_TOKENS": os.environ.get("NODE_KV_TOKENS", str(KV_TOKENS)),
            "NODE_DRAIN_S": str(NODE_DRAIN_S),
            "NODE_SETTINGS_JSON": os.environ.get("NODE_SETTINGS_JSON", json.dumps(changed_from_default())),
        }
        return env | ({"NODE_SERVED_MODEL_NAME": served_name} if served_name else {})

    # Components --------------------------------------------------------------------------------------------------

    def api(self) -> Spec:
        return Spec(
            "api",
            trimtab("api"),
            self.controlplane_env(),
            probe=self._answers(f"{self.addresses.api}/readyz"),
            url=self.addresses.api,
            stop_timeout_s=5.0,
        )

    def worker(self) -> Spec:
        return Spec("worker", trimtab("worker"), self.controlplane_env(), probe=self._beats("worker"))

    def controller(self) -> Spec:
        return Spec("controller", trimtab("controller"), self.controlplane_env(), probe=self._beats("controller"))

    def node(self, name: str, port: int, model: Path, served_name: str | None) -> Spec:
        return Spec(
            name,
            trimtab("node"),
            self.node_env(name, port, model, served_name),
            probe=self._is_enrolled(name),
            url=self.addresses.nodes[name],
            ready_timeout_s=300.0,  # a large model of the user's own may take minutes
            stop_timeout_s=NODE_DRAIN_S + 3.0,
        )

    def traffic(self) -> Spec:
        async def started(_: Spawned) -> bool:
            return True

        command = trimtab("demo-traffic", "--data-dir", str(self.folder.root))
        return Spec("demo-traffic", command, _base_env(), probe=started, stop_timeout_s=3.0)

    # Signs of readiness ------------------------------------------------------------------------------------------

    def _beats(self, kind: str) -> Probe:
        """The control plane has heard from a process of that kind that was started by us just now."""

        async def is_up(spawned: Spawned) -> bool:
            system = await self._read("/system")
            return any(
                process["kind"] == kind and datetime.fromisoformat(process["at"]) >= spawned.at
                for process in system.get("processes", ())
            )

        return is_up

    def _is_enrolled(self, name: str) -> Probe:
        is_ready = self._answers(f"{self.addresses.nodes[name]}/readyz")

        async def is_up(spawned: Spawned) -> bool:
            if not await is_ready(spawned):
                return False
            nodes = await self._read("/nodes")
            return any(node["name"] == name and node["health"] == "ready" for node in nodes.get("items", ()))

        return is_up

    async def _read(self, path: str) -> Mapping[str, list[dict[str, str]]]:
        headers = {"Authorization": f"Bearer {self.credentials.admin_token}"}
        try:
            response = await self.http.get(f"{self.addresses.api}/api/v1{path}", headers=headers)
            return dict(response.json()) if response.is_success else {}
        except (httpx2.HTTPError, ValueError):
            return {}

    def _answers(self, url: str) -> Probe:
        async def is_up(_: Spawned) -> bool:
            try:
                return (await self.http.get(url)).is_success
            except httpx2.HTTPError:
                return False

        return is_up


def trimtab(*arguments: str) -> tuple[str, ...]:
    """One of our own commands, by the same Python. -P: a folder `trimtab` in the working directory is not ours."""
    return (sys.executable, "-P", "-m", "trimtab", *arguments)


def changed_from_default() -> dict[str, object]:
    return {name: mine for name, (mine, _) in INITIAL_SETTINGS.changed(EngineSettings()).items()}


def _base_env() -> dict[str, str]:
    """The user's environment without settings that were meant for one process elsewhere."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("CONTROLPLANE_", "NODE_"))}
    logs = {name: value for name, value in os.environ.items() if name.endswith(("_LOG_LEVEL", "_LOG_JSON"))}
    # Nodes too: what the threads of several would win from each other on few cores they would lose in waiting.
    return {**mine, **logs, **ONE_THREAD, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}
