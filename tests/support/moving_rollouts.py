"""Moves the rollouts of an API under test in simulated seconds, as controller and nodes together would."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from controlplane.db import make_engine, session_scope
from controlplane.fleets import service as fleets
from controlplane.rollouts import service
from tests.support.leading import take_over
from tests.support.rollouts_in_sql import HOLDER, Lab, measure

PAUSE_S = 0.002


@contextmanager
def moving_rollouts(database_url: str) -> Iterator[None]:
    """Until left, every rollout under way is stepped: each step is a second later than the one before."""
    engine, ended = make_engine(database_url), threading.Event()
    failed: list[BaseException] = []

    def move() -> None:
        try:
            with session_scope(engine) as session:
                epoch = take_over(session, HOLDER)
            now = datetime.now(UTC)
            while not ended.wait(PAUSE_S):
                now += timedelta(seconds=1)
                with session_scope(engine) as session:
                    for rollout in service.active_rollouts(session):
                        made = Lab(session, fleets.get_pool(session, rollout.pool_id), epoch)
                        made.obey(now)
                        measure(made, rollout, now)
                        made.step(rollout, now)
        except BaseException as error:
            failed.append(error)
            raise

    thread = threading.Thread(target=move, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(60)
        engine.dispose()
    assert not failed, failed
