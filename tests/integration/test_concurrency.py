"""What must hold when several processes write at once, on both databases."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TypeVar

from sqlalchemy import Engine, func, select

from controlplane.db import session_scope
from controlplane.errors import Fenced
from controlplane.events import service as events
from controlplane.events.models import OutboxItem
from controlplane.fleets import service
from controlplane.fleets.models import Node, Pool, SettingsRevision
from controlplane.processes import lease
from controlplane.processes.service import take_slot
from controlplane.rollouts import in_flight
from inference_node.contract.settings import EngineSettings
from tests.support.registrations import heartbeat_of, registration

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
WRITERS = 8
NAME = "pools-00"
T = TypeVar("T")


def at_once(work: Callable[[int], T], count: int = WRITERS) -> list[T]:
    """Runs `work(0..count-1)` in as many threads, started together."""
    start = threading.Barrier(count)

    def run(number: int) -> T:
        start.wait()
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def test_first_nodes_that_come_at_once_make_one_pool_with_one_revision(engine: Engine) -> None:
    def register(number: int) -> str:
        settings = EngineSettings(max_batch_size=number + 1)
        with session_scope(engine) as session:
            registered = service.register_node(session, registration(f"node-{number}", settings=settings), now=NOW)
            return registered.node.id

    assert len(set(at_once(register))) == WRITERS
    with session_scope(engine, read_only=True) as session:
        pool = session.scalars(select(Pool)).one()
        assert session.scalars(select(SettingsRevision.number)).all() == [1]
        nodes = service.list_nodes(session, pool.id)
        assert sum(service.in_sync(node) for node in nodes) == 1
        assert sorted(node.desired_generation for node in nodes) == [0, *[1] * (WRITERS - 1)]


def test_one_node_that_registers_several_times_at_once_is_one_node(engine: Engine) -> None:
    def register(_: int) -> str:
        with session_scope(engine) as session:
            return service.register_node(session, registration(), now=NOW).node.id

    assert len(set(at_once(register))) == 1


def test_wishes_made_at_once_get_different_generations(engine: Engine) -> None:
    with session_scope(engine) as session:
        node_id = service.register_node(session, registration(), now=NOW).node.id

    def wish(number: int) -> int:
        with session_scope(engine) as session:
            node = service.get_node(session, node_id)
            settings = EngineSettings(max_batch_size=100 + number)
            made = service.create_revision(session, node.pool, settings, created_by="t", reason="", now=NOW)
            return service.set_desired(session, node, made, epoch=1, now=NOW)

    assert sorted(at_once(wish)) == list(range(1, WRITERS + 1))
    with session_scope(engine, read_only=True) as session:
        assert session.scalar(select(func.count()).select_from(OutboxItem)) == WRITERS
        numbers = session.scalars(select(SettingsRevision.number).order_by(SettingsRevision.number)).all()
        assert numbers == list(range(1, WRITERS + 2))


def test_heartbeats_and_wishes_at_once_lose_neither(engine: Engine) -> None:
    with session_scope(engine) as session:
        node_id = service.register_node(session, registration(), now=NOW).node.id

    def write(number: int) -> None:
        with session_scope(engine) as session:
            node = service.get_node(session, node_id)
            if number % 2:
                service.heartbeat(session, node, heartbeat_of(node, running=7), now=NOW)
            else:
                revision = service.current_revision(session, node.pool)
                service.set_desired(session, node, revision, epoch=1, now=NOW)

    at_once(write)
    with session_scope(engine, read_only=True) as session:
        node = session.get_one(Node, node_id)
        assert (node.running, node.desired_generation) == (7, WRITERS // 2)


def test_one_of_many_takes_the_lease_and_the_slot_and_the_debt(engine: Engine) -> None:
    def take(number: int) -> tuple[bool, bool, int]:
        with session_scope(engine) as session:
            held = lease.acquire_or_renew(session, names=[NAME], holder=f"h{number}", lease_s=60)
            slot = take_slot(session, "prune", 1, NOW)
            owed = events.owe(session, kind="push", key="same", payload={"by": number}, at=NOW)
            return NAME in held, slot, owed.id

    taken = at_once(take)
    assert Counter(led for led, _, _ in taken)[True] == 1
    assert Counter(slot for _, slot, _ in taken)[True] == 1
    assert len({owed for _, _, owed in taken}) == 1


def test_a_takeover_waits_for_the_leaders_open_transaction_and_fences_the_next(engine: Engine) -> None:
    """On SQLite the leader's transaction keeps all writers out anyway; on PostgreSQL its share lock on the row does."""
    with session_scope(engine) as session:
        held = lease.acquire_or_renew(session, names=[NAME], holder="old", lease_s=0)[NAME]
    order: list[str] = []
    checked = threading.Event()

    def lead() -> None:
        with session_scope(engine) as session:
            lease.assert_holds(session, {NAME: held.epoch})
            checked.set()
            session.execute(select(func.count()).select_from(Node))
            order.append("old wrote")

    def take_over() -> None:
        checked.wait(10)
        with session_scope(engine) as session:
            assert lease.acquire_or_renew(session, names=[NAME], holder="new", lease_s=60)
            order.append("new leads")

    threads = [threading.Thread(target=lead), threading.Thread(target=take_over)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert order == ["old wrote", "new leads"]
    with session_scope(engine) as session:
        try:
            lease.assert_holds(session, {NAME: held.epoch})
        except Fenced:
            return
    raise AssertionError("the old leader could still write")


def test_what_may_be_in_flight_is_counted_by_one_after_the_other(engine: Engine) -> None:
    """Controllers that lead pools of one fleet send at the same moment: the second sees what the first has sent."""
    with session_scope(engine) as session:
        for pool in ("one", "two"):
            service.register_node(session, registration(f"node-{pool}", pool=pool), now=NOW)
        fleet_id = service.list_pools(session)[0].fleet_id
    inside: list[int] = []
    most: list[int] = []

    def send(number: int) -> None:
        with session_scope(engine) as session:
            assert in_flight.hold(session, fleet_id) == 1
            inside.append(number)
            most.append(len(inside))
            time.sleep(0.01)
            inside.remove(number)

    at_once(send)
    assert set(most) == {1}


def test_the_lease_is_judged_by_the_databases_clock(engine: Engine) -> None:
    with session_scope(engine) as session:
        assert lease.acquire_or_renew(session, names=[NAME], holder="a", lease_s=60)
        assert not lease.acquire_or_renew(session, names=[NAME], holder="b", lease_s=60)
        held = lease.current_holders(session, [NAME])[NAME]
    assert abs(held.expires_at.timestamp() - datetime.now(UTC).timestamp() - 60) < 30
