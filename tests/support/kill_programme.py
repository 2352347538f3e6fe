"""Random kills, one after the other, while one rollout follows the other on one started fleet; and what must hold after each.

The fleet is not let come to rest between two kills: a rollout is under way nearly always, and the next fault meets whatever the
last one has left.
"""

import json
import random
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import psutil
from sqlalchemy import Engine, text

from controlplane import schema
from controlplane.audit.verify import Report as Chain
from controlplane.audit.verify import verify
from controlplane.db import make_engine
from tests.support.fleet import until
from tests.support.live_fleet import ENDED, LiveFleet, let_pass, live_fleet
from tests.support.postgres import PostgresServer, fresh_database, killable_postgres
from tests.support.receiver import Receiver, receiver

KINDS = ("api", "controller", "worker", "worker child", "node", "redis", "postgres")
AWAY_S = 0.5
MOST_WAIT_S = 4.0  # a kill comes at a random time after the last recovery, at most so late
RECOVERED_WITHIN_S = 180.0  # with room for a machine that stands still: what it took is in the report
_SIZES = range(16, 64)


@dataclass(slots=True)
class Report:
    """recoveries_s: from a fault until the API answers, one that runs leads, the worker does tasks, and every node is ready.

    fenced: how often a controller went on after its term and was refused; dead_letters: pushes that were given up.
    """

    recoveries_s: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    rollouts: Counter[str] = field(default_factory=Counter)
    applies: int = 0
    fenced: int = 0
    dead_letters: int = 0

    @property
    def p95_s(self) -> float:
        found = self._all()
        return found[int(0.95 * len(found))]

    def _all(self) -> list[float]:
        return sorted(value for each in self.recoveries_s.values() for value in each)

    def words(self) -> str:
        kinds = ", ".join(f"{kind} {len(each)} (worst {max(each):.1f} s)" for kind, each in self.recoveries_s.items())
        return (
            f"{len(self._all())} faults: {kinds}; recovery p95 {self.p95_s:.1f} s; rollouts {dict(self.rollouts)}, "
            f"{self.applies} applies, {self.fenced} times fenced, {self.dead_letters} dead letters"
        )


class KillProgramme:
    """Two controllers, a worker, an API, three nodes, Redis without persistence, PostgreSQL."""

    def __init__(self, fleet: LiveFleet, postgres: PostgresServer, engine: Engine, told: Receiver, seed: int) -> None:
        self.fleet, self.postgres, self.engine, self.told = fleet, postgres, engine, told
        self.fleet.post("/webhooks", {"name": "watch", "url": told.url, "kinds": ["rollout.*"]})
        self.random = random.Random(seed)
        self.report = Report()
        self.rollout_ids: list[str] = []
        self._size = 0

    def kill(self, kind: str) -> None:
        """One fault at a random time of a rollout, and the way back from it."""
        self._keep_changing()
        let_pass(self.random.uniform(0, MOST_WAIT_S))
        began = time.monotonic()
        self._faults()[kind]()
        until(self._is_well, RECOVERED_WITHIN_S, f"the fleet to be well again after {kind}")
        self.report.recoveries_s[kind].append(time.monotonic() - began)

    def pause_leader(self) -> None:
        """SIGSTOP for longer than the lease, and on: another leads by then, and what the first one goes on with is fenced."""
        self._keep_changing()
        let_pass(self.random.uniform(0, MOST_WAIT_S))
        until(self._is_well, RECOVERED_WITHIN_S, "somebody to lead")
        before = self.fleet.get("/system")["leader"]
        leader = next(part for part in self._controllers() if f":{part.pid}:" in before["holder"])
        began = time.monotonic()
        leader.kill(signal.SIGSTOP)
        try:
            until(lambda: self._another_leads(before), RECOVERED_WITHIN_S, "another controller to lead")
        finally:
            leader.kill(signal.SIGCONT)
        until(self._is_well, RECOVERED_WITHIN_S, "the fleet to be well again")
        self.report.recoveries_s["leader paused"].append(time.monotonic() - began)

    def settle(self) -> None:
        """The storm is over: what is under way ends, and what must hold holds."""
        for rollout_id in self.rollout_ids:
            done = self.fleet.wait_end(rollout_id, within_s=120)  # I9
            self.report.rollouts[done["phase"]] += 1
        self.fleet.wait_in_sync(within_s=30)  # I8
        until(lambda: self.fleet.get("/system")["outbox"]["open"] == 0, 30, "everything owed to be done")  # I3
        self._check_history()
        self._check_webhooks()
        until(lambda: self._chain().loose == 0, 30, "every event to have its place in the chain")
        assert self._chain().is_intact, self._chain().findings  # I6
        self.report.fenced = sum(_fenced(part.log()) for part in self._controllers())
        self.report.dead_letters = self.fleet.get("/system")["outbox"]["dead"]

    def _check_webhooks(self) -> None:
        """Each event of a rollout arrived, under one id that the receiver may tell repeats by."""
        with self.engine.connect() as db:
            rows = db.execute(text("SELECT id FROM events WHERE kind LIKE 'rollout.%'"))
            wanted = {event_id for (event_id,) in rows}
        until(lambda: wanted <= set(self._arrived().values()), 120, "every event to have arrived")
        arrived = self._arrived()
        assert len(arrived) == len(set(arrived.values())), "one event under several ids"  # I7
        assert set(arrived.values()) == wanted

    def _arrived(self) -> dict[str, int]:
        """webhook-id -> event."""
        return {got.headers["webhook-id"]: json.loads(got.body)["data"]["event_id"] for got in self.told.received}

    def _chain(self) -> Chain:
        return verify(self.engine, None)

    # Faults ---------------------------------------------------------------------------------------------------------

    def _faults(self) -> dict[str, Callable[[], None]]:
        nodes = [name for name in self.fleet.parts if name.startswith("node-")]
        return {
            "api": lambda: self._restart("api"),
            "controller": lambda: self._restart(self.random.choice([part.name for part in self._controllers()])),
            "worker": lambda: self._restart("worker"),
            "worker child": self._kill_child,
            "node": lambda: self._restart(self.random.choice(nodes)),
            "redis": self._wipe_redis,
            "postgres": self._kill_postgres,
        }

    def _restart(self, name: str) -> None:
        self.fleet.parts[name].kill()
        let_pass(AWAY_S)
        self.fleet.parts[name].start()

    def _kill_child(self) -> None:
        before = self._worker_children()
        if not before:  # it has none while it starts
            return
        victim = self.random.choice(sorted(before))
        with suppress(psutil.NoSuchProcess):
            psutil.Process(victim).kill()
        until(
            lambda: victim not in (now := self._worker_children()) and len(now) >= len(before),
            RECOVERED_WITHIN_S,
            "another child in its place",
        )

    def _worker_children(self) -> set[int]:
        try:
            return {child.pid for child in self.fleet.parts["worker"].children()}
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            return set()

    def _wipe_redis(self) -> None:
        self.fleet.redis.kill()
        let_pass(AWAY_S)
        self.fleet.redis.start()

    def _kill_postgres(self) -> None:
        self.postgres.kill()
        let_pass(AWAY_S)
        self.postgres.start()

    # Means ----------------------------------------------------------------------------------------------------------

    def _controllers(self) -> list[Any]:
        return [part for name, part in self.fleet.parts.items() if name.startswith("controller")]

    def _keep_changing(self) -> None:
        """A rollout is under way. One that cannot begin now (a node is not ready) is left to the next time."""
        try:
            if self.rollout_ids and self.fleet.rollout(self.rollout_ids[-1])["phase"] not in ENDED:
                return
            self._size = self.random.choice([size for size in _SIZES if size != self._size])
            self.rollout_ids.append(self.fleet.begin(self._size))
        except (httpx2.HTTPError, AssertionError):
            return

    def _another_leads(self, before: dict[str, Any]) -> bool:
        try:
            system = self.fleet.get("/system")
        except httpx2.HTTPError:
            return False
        leader = system["leader"]
        return (
            not system["unled_pools"]
            and leader is not None
            and leader["holder"] != before["holder"]
            and leader["epoch"] > before["epoch"]
        )

    def _is_well(self) -> bool:
        try:
            system = self.fleet.get("/system")
            nodes = self.fleet.nodes().values()
        except httpx2.HTTPError:
            return False
        leader = system["leader"]
        held = leader is not None and any(f":{part.pid}:" in leader["holder"] for part in self._controllers())
        works = any(f":{self.fleet.parts['worker'].pid}-" in process["name"] for process in system["processes"])
        return (
            held
            and not system["unled_pools"]
            and works  # this very one has written a sign of life from inside a task
            and all(part.is_running for part in self.fleet.parts.values())
            and all(n["health"] == "ready" for n in nodes)
        )

    def _check_history(self) -> None:
        with self.engine.connect() as db:
            rows = db.execute(text("SELECT node_id, data FROM events WHERE kind = 'node.settings_applied' ORDER BY id"))
            applied = [(node_id, _data(data)) for node_id, data in rows]
            rows = db.execute(text("SELECT data FROM events WHERE kind = 'control.leader_changed' ORDER BY id"))
            takeovers = [_data(data) for (data,) in rows]
            decided = db.execute(
                text("SELECT decision_id FROM rollouts WHERE decision_id IS NOT NULL GROUP BY 1 HAVING count(*) > 1")
            ).all()
            ends = db.execute(
                text(
                    "SELECT rollout_id FROM events WHERE kind IN ('rollout.completed', 'rollout.rolled_back',"
                    " 'rollout.rollback_failed', 'rollout.cancelled', 'rollout.rejected') GROUP BY 1 HAVING count(*) > 1"
                )
            ).all()
            active = db.execute(text("SELECT count(*) FROM rollouts WHERE active_pool_id IS NOT NULL")).scalar_one()
        assert (decided, ends, active) == ([], [], 0)  # I1
        for name in {name for taken in takeovers for name in taken["leases"]}:
            epochs = [taken["epoch"] for taken in takeovers if name in taken["leases"]]
            assert epochs == sorted(set(epochs)), "an epoch was given twice"  # I4
        for node_id in {node_id for node_id, _ in applied}:
            generations = [data["generation"] for each, data in applied if each == node_id]
            assert generations == sorted(set(generations)), f"doubled or backwards: {generations}"  # I2
            under = [data["epoch"] for each, data in applied if each == node_id]
            assert under == sorted(under), f"applied under an older epoch: {under}"  # I4
        self.report.applies = len(applied)


def _fenced(log: str) -> int:
    return sum(" fenced " in line or '"fenced"' in line for line in log.splitlines())


def _data(value: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(value) if isinstance(value, str) else value
    return found


@contextmanager
def kill_programme(folder: Path, seed: int) -> Iterator[KillProgramme]:
    postgres = killable_postgres()
    try:
        with fresh_database(postgres.url) as url:
            engine = make_engine(url)
            schema.upgrade(engine)
            environment = {
                "CONTROLPLANE_DATABASE_URL": url,
                "CONTROLPLANE_WEBHOOK_ALLOWED_NETWORKS": '["127.0.0.0/8"]',
            }
            with receiver() as told, live_fleet(folder, nodes=3, environment=environment) as fleet:
                fleet.add("controller-2", "-P", "-m", "trimtab", "controller")
                yield KillProgramme(fleet, postgres, engine, told, seed)
            engine.dispose()
    finally:
        postgres.close()
