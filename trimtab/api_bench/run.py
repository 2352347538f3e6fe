"""The benchmark from outside: a database with a history that the product itself made, a real API process, load, figures."""

import asyncio
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import psutil
from sqlalchemy import Engine

from controlplane import models as models
from controlplane import schema
from controlplane.db import make_engine
from inference_node.bench.ports import free_port
from trimtab.api_bench.load import Load, put_on
from trimtab.errors import CommandError
from trimtab.fleet_bench.enrol import enrol
from trimtab.fleet_bench.ticks import time_ticks

_READY_S = 60.0
# Decisions and forecasts in each pool: two ticks that are thrown away in other figures, and this many more.
_TICKS = 2


@dataclass(frozen=True, slots=True)
class ApiOptions:
    """Rates are per second; `streams` are open all the time. history: decisions and forecasts made before, by real ticks."""

    streams: int
    reads: float
    writes: float
    duration_s: float
    pools: int = 20
    nodes: int = 200
    database_url: str | None = None
    history: bool = True
    seed: int = 0


def run(options: ApiOptions, progress: Callable[[str], None]) -> dict[str, Any]:
    """Raises CommandError when a process does not start."""
    with tempfile.TemporaryDirectory(prefix="trimtab-api-") as name:
        folder = Path(name)
        url = options.database_url or f"sqlite:///{folder}/api.sqlite3"
        engine = make_engine(url)
        try:
            schema.upgrade(engine)
            _fill(engine, options, folder, progress)
            token = f"tt_{secrets.token_hex(24)}"
            with _api(url, token, folder) as (address, process):
                load = Load(
                    address, token, options.streams, options.reads, options.writes, options.duration_s, options.seed
                )
                progress(f"{load.duration_s:g} s of {load.reads_per_s:g} reads/s and {load.writes_per_s:g} changes/s")
                before = process.cpu_times()
                found = asyncio.run(put_on(load))
                after = process.cpu_times()
            dialect = engine.dialect.name
        finally:
            engine.dispose()
    return {
        "benchmark": "api", "database": dialect, "pools": options.pools, "nodes": options.nodes, "streams": options.streams,
        "reads_per_s": options.reads, "writes_per_s": options.writes, "duration_s": options.duration_s,
        "seed": options.seed, "cpus": os.cpu_count(),
        "api_cpu_s": round(after.user + after.system - before.user - before.system, 2), **found,
    }  # fmt: skip


def _fill(engine: Engine, options: ApiOptions, folder: Path, progress: Callable[[str], None]) -> None:
    # Nothing dials these nodes: no worker runs.
    enrol(engine, options.nodes, options.pools, lambda number: f"http://127.0.0.1:{10_000 + number}")
    if options.history:
        time_ticks(engine, _TICKS, folder, progress)


@contextmanager
def _api(database_url: str, token: str, folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    """The API as `trimtab api` runs it, in a process of its own: its address, and the process, when it is ready."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    environment = {
        "CONTROLPLANE_DATABASE_URL": database_url, "CONTROLPLANE_PORT": str(port), "CONTROLPLANE_ADMIN_TOKEN": token,
        "CONTROLPLANE_PROMETHEUS_URL": "http://127.0.0.1:9", "CONTROLPLANE_REDIS_URL": "redis://127.0.0.1:9/0",
        # The limit protects from one caller; here one caller stands for many people.
        "CONTROLPLANE_REQUESTS_PER_S": "100000",
    }  # fmt: skip
    path = folder / "api.log"
    with path.open("wb") as log:
        process = subprocess.Popen(
            (sys.executable, "-m", "trimtab", "api"), env=os.environ | environment, stdout=log, stderr=log
        )
    try:
        _wait_until_ready(process, address, path)
        yield address, psutil.Process(process.pid)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline = time.monotonic() + _READY_S
    with httpx2.Client(trust_env=False, timeout=5) as http:
        while time.monotonic() < deadline and process.poll() is None:
            try:
                if http.get(f"{address}/readyz").status_code == httpx2.codes.OK:
                    return
            except httpx2.HTTPError:
                pass  # not listening yet
            time.sleep(0.1)
    raise CommandError(f"the API did not start:\n{log.read_text(errors='replace')[-800:]}")
