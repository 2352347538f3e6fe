"""How long the controller's tick takes over all pools: real queries to a real Prometheus, SQL, forecasts and decisions."""

import asyncio
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
from sqlalchemy import Engine

from controlplane.clock import SystemClock
from controlplane.db import session_scope
from controlplane.fleets import service as fleets
from controlplane.processes import shards
from controlplane.processes.shards import Terms
from controlplane.settings import ControlPlaneSettings
from controlplane.telemetry import service as telemetry
from controlplane.telemetry.collector import Collector
from controlplane.telemetry.observation import Observation, Quality
from controlplane.telemetry.prometheus import Prometheus
from controlplane.tick import Ticker
from inference_node.bench.ports import free_port
from trimtab.errors import CommandError
from trimtab.fleet_bench.beside import page_of
from trimtab.fleet_bench.exposition import Told
from trimtab.supervisor import prometheus as local_prometheus
from trimtab.supervisor.report import Reporter

_WINDOW_S, _SCRAPE_S = 15.0, 5.0
# What forecasters look at: 20 minutes of windows, which each pool is given before the first tick.
_HISTORY = 80
_READY_S = 60.0
_WARM = 2


def time_ticks(engine: Engine, count: int, folder: Path, progress: Callable[[str], None]) -> dict[str, Any]:
    """Seconds of each tick over all pools, one right after the other. Raises CommandError when Prometheus does not start."""
    told = _nodes(engine)
    with page_of(told) as (address, series), _prometheus(folder, address) as url:
        _wait_for_windows(url, len(told))
        progress(f"Prometheus has scraped {series:,} series of {len(told)} nodes")
        return {"series": series, **_ticks(engine, count, url)}


def _ticks(engine: Engine, count: int, url: str) -> dict[str, Any]:
    settings = ControlPlaneSettings(prometheus_url=url, window_s=_WINDOW_S, scrape_interval_s=_SCRAPE_S)
    client = Prometheus(url, timeout_s=settings.prometheus_timeout_s)
    ticker = Ticker(engine, settings, SystemClock(), Collector(client, scrape_interval_s=_SCRAPE_S))
    terms = _lead(engine)
    with session_scope(engine, read_only=True) as session:
        pools = [pool.id for pool in fleets.list_pools(session)]
    _give_history(engine, pools)
    taken: list[float] = []
    told: list[float] = []
    raced: list[float] = []
    reasons: dict[str, int] = {}
    for number in range(_WARM + count):
        at = datetime.now(UTC) - timedelta(seconds=0.5)
        began = time.perf_counter()
        ticker.begin(pools, at, terms)
        for pool_id in pools:
            epoch = terms.of(pool_id)
            assert epoch is not None, "all shards are ours"
            ticked = ticker.tick(pool_id, at, epoch)
            if ticked.unavailable is not None:
                raise CommandError(f"a tick had no figures: {ticked.unavailable}")
            reasons[ticked.decision.reason.value] = reasons.get(ticked.decision.reason.value, 0) + 1
        decided = time.perf_counter()
        ticker.tell_nodes(at, terms)
        nodes_told = time.perf_counter()
        ticker.race_ahead(at + timedelta(seconds=settings.tick_s))
        if number >= _WARM:
            taken.append(decided - began)
            told.append(nodes_told - decided)
            raced.append(time.perf_counter() - nodes_told)
    client.close()
    return {
        "pools": len(pools), "ticks": count, "decisions": reasons,
        "tick_s": sorted(taken), "nodes_s": sorted(told), "races_s": sorted(raced),
    }  # fmt: skip


def _nodes(engine: Engine) -> list[Told]:
    with session_scope(engine, read_only=True) as session:
        pools = {pool.id: (pool.name, pool.fleet.name) for pool in fleets.list_pools(session)}
        return [Told(node.id, node.name, *pools[node.pool_id]) for node in fleets.list_nodes(session)]


def _give_history(engine: Engine, pools: list[str]) -> None:
    now = datetime.now(UTC)
    for number, pool_id in enumerate(pools):
        with session_scope(engine) as session:
            for place in range(_HISTORY, 0, -1):
                wave = 1.0 + 0.2 * (((place + 7 * number) % 40) / 40.0)
                facts = {
                    "offered": 225.0 * wave, "offered_rps": 15.0 * wave, "running": 30.0, "waiting": 0.0, "nodes_up": 10,
                    "ttft_p95_s": 0.1 * wave, "itl_p95_s": 0.02 * wave, "prompt_tokens_mean": 180.0,
                    "generation_tokens_mean": 90.0, "step_mean_s": 0.02, "kv_usage": 0.3,
                }  # fmt: skip
                end = now - timedelta(seconds=_WINDOW_S * place)
                seen = Observation.from_json(end, _WINDOW_S, Quality.OK.value, facts)
                telemetry.save_observations(session, pool_id, seen, {})


def _lead(engine: Engine) -> Terms:
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline:
        with session_scope(engine) as session:
            terms = shards.share_out(session, holder="bench", lease_s=3600.0).terms
        if len(terms.epochs) == shards.SHARDS:
            return terms
        time.sleep(0.5)
    raise CommandError("another controller keeps pools of this database")


@contextmanager
def _prometheus(folder: Path, target: str) -> Iterator[str]:
    home = folder / "prometheus"
    program = asyncio.run(local_prometheus.find_server(home, Reporter(as_json=False)))
    home.mkdir(parents=True, exist_ok=True)
    interval = f"{_SCRAPE_S:g}s"
    config = home / "prometheus.yml"
    scraped = {"job_name": "simulated", "honor_labels": True, "static_configs": [{"targets": [target]}]}
    times = {"scrape_interval": interval, "scrape_timeout": interval}
    config.write_text(json.dumps({"global": times, "scrape_configs": [scraped]}))
    port = free_port()
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(local_prometheus.command(program, config, home, port), stdout=log, stderr=log)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def _wait_for_windows(url: str, nodes: int) -> None:
    """Until all nodes were scraped for a whole window."""
    query = f'count(count_over_time(up{{node_id!=""}}[{_WINDOW_S:g}s]) >= {int(_WINDOW_S // _SCRAPE_S)})'
    deadline = time.monotonic() + _READY_S
    with httpx2.Client(trust_env=False, timeout=10) as http:
        while time.monotonic() < deadline:
            try:
                found = http.post(f"{url}/api/v1/query", data={"query": query}).json()["data"]["result"]
            except (httpx2.HTTPError, ValueError, KeyError):
                found = []
            if found and int(float(found[0]["value"][1])) >= nodes:
                return
            time.sleep(0.5)
    raise CommandError(f"Prometheus has not scraped all {nodes} simulated nodes within {_READY_S:g} s")
