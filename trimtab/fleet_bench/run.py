"""Many pools change at once, then all go back at once; each node's way is timed, and each effect counted."""

import asyncio
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, func, select

from controlplane import models as models
from controlplane import schema
from controlplane.db import make_engine, session_scope
from controlplane.decisions.policy import Policy, RolloutPolicy
from controlplane.events.models import Event, OutboxItem
from controlplane.fleets import service as fleets
from controlplane.rollouts import service as rollouts
from controlplane.rollouts.models import Rollout, RolloutNode
from controlplane.rollouts.plan import Mode
from controlplane.rollouts.requests import roll_back_to
from inference_node.bench.ports import free_port
from trimtab.errors import CommandError
from trimtab.fleet_bench.beside import beating_nodes
from trimtab.fleet_bench.enrol import enrol
from trimtab.fleet_bench.nodes import NodeServer
from trimtab.fleet_bench.ticks import time_ticks
from trimtab.supervisor import redis as local_redis

POLICY = Policy(rollout=RolloutPolicy(progress_deadline_s=120.0))
POLL_S = 0.25


@dataclass(frozen=True, slots=True)
class FleetOptions:
    """rounds: how often every pool changes; then comes the rollback of all at once. ticks: of the controller, timed then."""

    nodes: int
    pools: int
    rounds: int = 1
    workers: int = 2
    concurrency: int = 4
    database_url: str | None = None
    redis_url: str | None = None
    timeout_s: float = 300.0
    ticks: int = 0

    @property
    def pools_at_once(self) -> int:
        """How many pools change at the same time: a tenth, which is what a fleet may have in flight. All go back at once."""
        return max(1, self.pools // 10)


def run(options: FleetOptions, progress: Callable[[str], None]) -> dict[str, Any]:
    """Raises CommandError when something does not start or a round does not end in time."""
    with tempfile.TemporaryDirectory(prefix="trimtab-fleet-") as folder:
        return asyncio.run(_run(options, Path(folder), progress))


async def _run(options: FleetOptions, folder: Path, progress: Callable[[str], None]) -> dict[str, Any]:
    url = options.database_url or f"sqlite:///{folder}/fleet.sqlite3"
    engine = make_engine(url)
    schema.upgrade(engine)
    server = NodeServer(options.nodes)
    await server.start()
    began = time.monotonic()
    await asyncio.to_thread(enrol, engine, options.nodes, options.pools, server.url)
    progress(f"{options.nodes} nodes in {options.pools} pools enrolled in {time.monotonic() - began:.1f} s")
    try:
        with beating_nodes(url):
            return await _measured(options, url, folder, engine, server, progress)
    finally:
        await server.stop()
        engine.dispose()


async def _measured(
    options: FleetOptions, url: str, folder: Path, engine: Engine, server: NodeServer, progress: Callable[[str], None]
) -> dict[str, Any]:
    with _processes(options, url, folder):
        rounds = []
        pools = await asyncio.to_thread(_pool_ids, engine)
        for number in range(1, options.rounds + 1):
            ids: list[str] = []
            for some in _groups(pools, options.pools_at_once):
                begun = await asyncio.to_thread(_change, engine, some, 10 + number)
                await _ended(engine, begun, options.timeout_s)
                ids += begun
            rounds.append(await asyncio.to_thread(_times, engine, ids))
            progress(f"change {number} of {options.rounds}: {_words(rounds[-1])}")
        back = await asyncio.to_thread(_all_back, engine)
        await _ended(engine, back, options.timeout_s)
        rollback = await asyncio.to_thread(_times, engine, back)
        progress(f"rollback of all: {_words(rollback)}")
        await _outbox_empty(engine, options.timeout_s)
    ticks = await asyncio.to_thread(time_ticks, engine, options.ticks, folder, progress) if options.ticks else None
    report = {
        "benchmark": "fleet", "nodes": options.nodes, "pools": options.pools, "rounds": options.rounds,
        "rollouts": options.pools * (options.rounds + 1), "database": engine.dialect.name,
        "workers": options.workers, "concurrency": options.concurrency, "cpus": os.cpu_count(),
        "apply": _merged(rounds), "rollback": rollback, **await asyncio.to_thread(_effects, engine, server),
    }  # fmt: skip
    if ticks is not None:
        report["ticks"] = ticks
    return report


def _pool_ids(engine: Engine) -> list[str]:
    with session_scope(engine, read_only=True) as session:
        return [pool.id for pool in fleets.list_pools(session)]


def _groups(ids: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), size):
        yield ids[start : start + size]


def _change(engine: Engine, pool_ids: Sequence[str], batch: int) -> list[str]:
    """A direct rollout in each of the pools, each in a transaction of its own, as requests would bring them."""
    ids = []
    for pool_id in pool_ids:
        with session_scope(engine) as session:
            pool, now = fleets.get_pool(session, pool_id), datetime.now(UTC)
            settings = fleets.settings_of(fleets.current_revision(session, pool)).replace(max_batch_size=batch)
            revision = fleets.create_revision(session, pool, settings, created_by="bench", reason="bench", now=now)
            rollout = rollouts.create_rollout(
                session, pool=pool, to_revision=revision, decision_id=None, policy=POLICY, epoch=0,
                created_by="bench", reason="bench", now=now, mode=Mode.DIRECT,
            )  # fmt: skip
            ids.append(rollout.id)
    return ids


def _all_back(engine: Engine) -> list[str]:
    ids = []
    for pool_id in _pool_ids(engine):
        with session_scope(engine) as session:
            pool = fleets.get_pool(session, pool_id)
            good = rollouts.last_good(session, pool)
            if not good:
                continue  # its change did not go through, so there is nothing to take back
            newest = good[0]
            rollout = roll_back_to(
                session, pool, newest.number, "bench", policy=POLICY, now=datetime.now(UTC), reason="bench", epoch=0
            )
            ids.append(rollout.id)
    return ids


async def _ended(engine: Engine, ids: Sequence[str], timeout_s: float) -> None:
    def still() -> int:
        with session_scope(engine, read_only=True) as session:
            query = select(func.count()).select_from(Rollout).where(Rollout.id.in_(ids), Rollout.ended_at.is_(None))
            return session.scalar(query) or 0

    await _until(still, timeout_s, "rollouts have not ended")


async def _outbox_empty(engine: Engine, timeout_s: float) -> None:
    def still() -> int:
        with session_scope(engine, read_only=True) as session:
            is_open = OutboxItem.done_at.is_(None) & OutboxItem.dead_at.is_(None)
            return session.scalar(select(func.count()).select_from(OutboxItem).where(is_open)) or 0

    await _until(still, timeout_s, "pushes are still owed")


async def _until(still: Callable[[], int], timeout_s: float, what: str) -> None:
    deadline = time.monotonic() + timeout_s
    while (left := await asyncio.to_thread(still)) > 0:
        if time.monotonic() > deadline:
            raise CommandError(f"after {timeout_s:g} s {left} {what}")
        await asyncio.sleep(POLL_S)


def _times(engine: Engine, ids: Sequence[str]) -> dict[str, Any]:
    """Seconds per node: from the request, and from the dispatch, to its acknowledgement in SQL."""
    asked, sent = [], []
    with session_scope(engine, read_only=True) as session:
        acks: dict[tuple[str, int], datetime] = {}
        events = select(Event).where(Event.kind == "node.settings_applied")
        for event in session.scalars(events):
            acks[(event.node_id or "", event.data["generation"])] = event.at
        parts = select(RolloutNode, Rollout.created_at).join(Rollout, Rollout.id == RolloutNode.rollout_id)
        for part, created_at in session.execute(parts.where(RolloutNode.rollout_id.in_(ids))):
            ack = acks.get((part.node_id, part.generation or -1))
            if ack is not None and part.dispatched_at is not None:
                asked.append((ack - created_at).total_seconds())
                sent.append((ack - part.dispatched_at).total_seconds())
        phases = session.execute(select(Rollout.phase, func.count()).where(Rollout.id.in_(ids)).group_by(Rollout.phase))
        found = {str(row[0]): int(row[1]) for row in phases}
    return {"nodes": len(sent), "phases": found, "request_to_ack_s": sorted(asked), "dispatch_to_ack_s": sorted(sent)}


def _merged(rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    names = ("request_to_ack_s", "dispatch_to_ack_s")
    phases: dict[str, int] = {}
    for each in rounds:
        for phase, count in each["phases"].items():
            phases[phase] = phases.get(phase, 0) + count
    merged = {name: sorted(value for each in rounds for value in each[name]) for name in names}
    return {"nodes": sum(each["nodes"] for each in rounds), "phases": phases, **merged}


def summary(values: Sequence[float]) -> dict[str, float]:
    """p50, p95, p99 and maximum of sorted values."""
    if not values:
        return {}
    at = {
        name: values[min(len(values) - 1, int(q * len(values)))]
        for name, q in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
    }
    return {name: round(value, 3) for name, value in at.items()} | {"max": round(values[-1], 3)}


def _words(times: dict[str, Any]) -> str:
    asked, sent = summary(times["request_to_ack_s"]), summary(times["dispatch_to_ack_s"])
    return f"{times['nodes']} nodes, {times['phases']}, dispatch to ack {sent}, request to ack {asked}"


def _effects(engine: Engine, server: NodeServer) -> dict[str, int]:
    """Lost: nodes that do not have their last wish. Doubled: generations whose settings took effect more than once."""
    with session_scope(engine, read_only=True) as session:
        rows = {int(node.name.removeprefix("node-")): node for node in fleets.list_nodes(session)}
        lost = sum(
            server.nodes[k].generation != node.desired_generation or not fleets.in_sync(node)
            for k, node in rows.items()
        )
        dead = session.scalar(select(func.count()).select_from(OutboxItem).where(OutboxItem.dead_at.is_not(None))) or 0
    return {
        "applies": sum(sum(node.applied.values()) for node in server.nodes),
        "pushes": sum(node.pushes for node in server.nodes),
        "doubled": sum(count - 1 for node in server.nodes for count in node.applied.values()),
        "refused_as_stale": sum(node.stale for node in server.nodes),
        "lost": lost,
        "dead_letters": dead,
    }


@contextmanager
def _processes(options: FleetOptions, database_url: str, folder: Path) -> Iterator[None]:
    """Redis (unless given), a controller and the workers, ended at the end."""
    started: list[subprocess.Popen[bytes]] = []

    def start(name: str, command: Sequence[str], environment: dict[str, str]) -> None:
        with (folder / f"{name}.log").open("wb") as log:
            started.append(subprocess.Popen(command, env=os.environ | environment, stdout=log, stderr=log))

    redis_url = options.redis_url
    if redis_url is None:
        port, password = free_port(), secrets.token_hex(16)
        config = local_redis.write_config(folder / "redis", port, password)
        start("redis", (local_redis.find_server(), str(config)), {})
        redis_url = local_redis.local_url(port, password)
    environment = {
        "CONTROLPLANE_DATABASE_URL": database_url, "CONTROLPLANE_REDIS_URL": redis_url,
        "CONTROLPLANE_PROMETHEUS_URL": "http://127.0.0.1:9", "CONTROLPLANE_WORKER_CONCURRENCY": str(options.concurrency),
        "CONTROLPLANE_TICK_S": "3600", "CONTROLPLANE_WINDOW_S": "3600",
    }  # fmt: skip
    try:
        start("controller", (sys.executable, "-m", "trimtab", "controller"), environment)
        for number in range(options.workers):
            start(f"worker-{number}", (sys.executable, "-m", "trimtab", "worker"), environment)
        time.sleep(1.0)
        for process in started:
            if process.poll() is not None:
                logs = "\n".join(path.read_text(errors="replace")[-800:] for path in sorted(folder.glob("*.log")))
                raise CommandError(f"a process ended at once:\n{logs}")
        yield
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
