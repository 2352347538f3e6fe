"""The spike model is learned in a process of its own, kept in SQL, and taken by the next tick; nothing waits for it."""

import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from controlplane.db import make_engine, session_scope
from controlplane.decisions.policy import Policy, Slo
from controlplane.fleets import service as fleets
from controlplane.forecasting.models import SpikeModelRecord, SpikeRecord
from controlplane.forecasting.spikes.thresholds import ANY_POOL
from controlplane.forecasting.training_task import PoolTask, Task
from controlplane.foresight import Foresight
from controlplane.processes.shards import Terms
from controlplane.telemetry import service as telemetry
from controlplane.training_loop import SpikeTraining
from tests.support.database import sqlite_url
from tests.support.made_up_telemetry import SLO_S, windows
from tests.support.registrations import registration

NOW = datetime(2026, 11, 29, tzinfo=UTC)
COUNT, STEP_S = 1500, 15.0
END = NOW + timedelta(seconds=COUNT * STEP_S)


class Clock:
    def now(self) -> datetime:
        return END


def pool(url: str, count: int, spikes: int = 20) -> str:
    """One with `count` windows behind it, a surge each twelve minutes or so, and as many spikes told as a training asks for."""
    engine = make_engine(url)
    with session_scope(engine) as session:
        pool_id = fleets.register_node(session, registration(), now=NOW).node.pool_id
        for seen in windows(count, NOW, surge_every=50, rise=12):
            telemetry.save_observations(session, pool_id, seen)
        for i in range(spikes):
            session.add(SpikeRecord(pool_id=pool_id, onset_at=END - timedelta(minutes=20 * i), ended_at=END))
    engine.dispose()
    return pool_id


def runs(training: SpikeTraining) -> bool:
    return training.is_running


def ended(training: SpikeTraining, terms: Terms, limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    while training.is_running:
        assert time.monotonic() < deadline, "the training took too long"
        time.sleep(0.2)
        training.keep(terms)


def test_a_model_is_learned_saved_and_used(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path)
    pool_id = pool(url, COUNT)
    engine = make_engine(url)
    training, terms = SpikeTraining(engine, url, Clock()), Terms.everywhere(1)
    began = time.monotonic()
    training.keep(terms)
    assert training.is_running and time.monotonic() - began < 2.0  # a tick would not have felt it
    ended(training, terms, 300.0)
    with session_scope(engine, read_only=True) as session:
        row = session.scalars(select(SpikeModelRecord)).one()
        assert row.version == 1
        assert set(row.thresholds) == {pool_id, ANY_POOL}
        assert row.report[pool_id]["watch"]["spikes"] >= 20
    foresight = Foresight(engine, STEP_S)
    newest = windows(COUNT, NOW, surge_every=50, rise=12)[-1]
    with session_scope(engine, read_only=True) as session:
        foresight.begin(session, newest.window_end)
    look = foresight.look(pool_id, 1, newest, Policy(slo=Slo(ttft_p95_s=SLO_S)))
    assert look is not None and look.found.model == "learned v1"
    assert 0.0 <= look.found.probability <= 1.0
    training.keep(terms)
    assert not runs(training)  # fresh for the next hours
    engine.dispose()


def test_too_little_past_makes_no_model(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path)
    pool(url, 100)
    engine = make_engine(url)
    training, terms = SpikeTraining(engine, url, Clock()), Terms.everywhere(1)
    training.keep(terms)
    ended(training, terms, 120.0)
    with session_scope(engine, read_only=True) as session:
        assert session.scalars(select(SpikeModelRecord)).first() is None
    engine.dispose()


@pytest.mark.parametrize(
    "code",
    ["import time; time.sleep(600)", "raise SystemExit(3)", "print('no json')"],
    ids=["hangs", "fails", "babbles"],
)
def test_a_training_that_goes_wrong_is_ended_and_harms_nobody(tmp_path: Path, code: str) -> None:
    url = sqlite_url(tmp_path)
    pool(url, 3)
    engine = make_engine(url)
    training = SpikeTraining(engine, url, Clock(), command=(sys.executable, "-c", code), hangs_after_s=0.5)
    training.keep(Terms.everywhere(1))
    ended(training, Terms.everywhere(1), 60.0)
    with session_scope(engine, read_only=True) as session:
        assert session.scalars(select(SpikeModelRecord)).first() is None
    engine.dispose()


def test_who_does_not_lead_the_first_pool_trains_nothing(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path)
    pool(url, 3)
    engine = make_engine(url)
    training = SpikeTraining(engine, url, Clock())
    training.keep(Terms({}))
    assert not training.is_running
    engine.dispose()


def test_before_enough_spikes_were_seen_no_process_is_started(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path)
    pool(url, 3, spikes=19)
    engine = make_engine(url)
    training = SpikeTraining(engine, url, Clock())
    training.keep(Terms.everywhere(1))
    assert not training.is_running
    engine.dispose()


def test_the_controller_loads_no_scikit_learn() -> None:
    code = "import sys, controlplane.controller; sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_task_survives_the_pipe() -> None:
    task = Task("sqlite:///x", END, (PoolTask("a", 1.5, 64.0),), seed=3)
    assert Task.from_json(task.to_json()) == task
