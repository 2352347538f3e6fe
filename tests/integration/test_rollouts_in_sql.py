"""What rollouts write, on both databases: a whole one, two that begin at once, and two controllers that step at once."""

import threading
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import Engine, func, select

from controlplane.db import session_scope
from controlplane.errors import Conflict
from controlplane.events.models import Event
from controlplane.fleets import service as fleets
from controlplane.rollouts.execute import Overtaken, execute
from controlplane.rollouts.loading import load_snapshot
from controlplane.rollouts.models import Rollout
from controlplane.rollouts.phases import RolloutPhase
from controlplane.rollouts.reconcile import reconcile
from tests.support.rollouts_in_sql import NOW, TIMEOUT_S, Lab, drive, lab


def test_a_whole_rollout(engine: Engine) -> None:
    with session_scope(engine) as session:
        made = lab(session)
        rollout = made.begin()
        drive(made, rollout, NOW, until=RolloutPhase.COMPLETED)
        assert made.pool.current_revision_id == rollout.to_revision_id


def test_of_two_that_begin_at_once_one_stands(engine: Engine) -> None:
    with session_scope(engine) as session:
        pool_id, epoch = (made := lab(session)).pool.id, made.epoch
    together = threading.Barrier(2)

    def begin(batch: int) -> bool:
        together.wait()
        try:
            with session_scope(engine) as session:
                Lab(session, fleets.get_pool(session, pool_id), epoch).begin(batch)
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(2) as threads:
        stood = list(threads.map(begin, (16, 17)))
    assert sorted(stood) == [False, True]
    with session_scope(engine, read_only=True) as session:
        assert session.scalar(select(func.count()).select_from(Rollout)) == 1


def test_of_two_steps_from_one_snapshot_one_is_written(engine: Engine) -> None:
    """The lease keeps this from happening; the compare-and-set makes it harmless if it ever does."""
    with session_scope(engine) as session:
        made = lab(session)
        rollout_id, epoch = made.begin().id, made.epoch
    with session_scope(engine, read_only=True) as session:
        seen = load_snapshot(session, rollout_id, now=NOW, heartbeat_timeout_s=TIMEOUT_S)
    assert seen is not None
    together = threading.Barrier(2)

    def step(_: int) -> bool:
        together.wait()
        try:
            with session_scope(engine) as session:
                execute(session, seen, reconcile(seen, NOW), epoch=epoch, now=NOW)
        except Overtaken:
            return False
        return True

    with ThreadPoolExecutor(2) as threads:
        assert sorted(threads.map(step, range(2))) == [False, True]
    with session_scope(engine, read_only=True) as session:
        started = select(func.count()).select_from(Event).where(Event.kind == "rollout.started")
        assert session.scalar(started) == 1
