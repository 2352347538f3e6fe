"""A process of its own that learns the spike model from what SQL holds, and saves it as the next version.

`python -m controlplane.forecasting.trainer` reads what to learn from on its standard input (a `Task` as JSON) and says on its
standard output what came of it. The controller starts it; a tick neither waits for it nor shares its core for long, since it is
nice.
"""

import json
import os
import sys
from datetime import UTC, datetime

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from controlplane.db import make_engine, session_scope
from controlplane.forecasting.models import SpikeModelRecord
from controlplane.forecasting.spikes.costs import Costs
from controlplane.forecasting.spikes.learn import Learned, PoolPast, learn
from controlplane.forecasting.spikes.telemetry import costs_of_steps, history_of
from controlplane.forecasting.training_task import PAST, PoolTask, Task
from controlplane.telemetry import service as telemetry

_KEPT_VERSIONS = 5
_NICE = 10
_MIN_WINDOWS = 960  # four hours of 15 s: less has no parts to leave out
_COST_WINDOWS = 2000


def train(session: Session, task: Task) -> Learned | str:
    """The model of what SQL holds, or in words why there is none."""
    pools = [found for pool in task.pools if (found := _past(session, pool, task.until)) is not None]
    if not pools:
        return "no pool has four hours of windows with a known cost of a request"
    return learn(pools, seed=task.seed)


def save(session: Session, learned: Learned, now: datetime) -> int:
    """As the next version; the oldest ones go. Raises IntegrityError when another one has just saved that version."""
    version = (session.scalar(select(func.max(SpikeModelRecord.version))) or 0) + 1
    session.add(
        SpikeModelRecord(
            version=version, made_at=now, content=learned.model.to_bytes(), thresholds=learned.thresholds,
            report=learned.report,
        )
    )  # fmt: skip
    session.flush()
    for row in session.scalars(select(SpikeModelRecord).where(SpikeModelRecord.version <= version - _KEPT_VERSIONS)):
        session.delete(row)
    return version


def _past(session: Session, pool: PoolTask, until: datetime) -> PoolPast | None:
    windows = telemetry.recent(session, pool.pool_id, until - PAST, until)
    history = history_of(windows)
    if history is None or len(history) < _MIN_WINDOWS:
        return None
    costs: Costs | None = costs_of_steps(windows[-_COST_WINDOWS:], pool.full_rows)
    return None if costs is None else PoolPast(pool.pool_id, history, pool.slo_s, costs)


def main() -> int:
    """Returns the exit code: 0 whether or not there was enough to learn from."""
    os.nice(_NICE)
    task = Task.from_json(sys.stdin.read())
    engine = make_engine(task.database_url)
    try:
        with session_scope(engine, read_only=True) as session:
            learned = train(session, task)
        if isinstance(learned, str):
            return _say(None, learned)
        try:
            with session_scope(engine) as session:
                version = save(session, learned, datetime.now(UTC))
        except IntegrityError:
            return _say(None, "another controller has just saved a model")
        return _say(version, None)
    finally:
        engine.dispose()


def _say(version: int | None, reason: str | None) -> int:
    sys.stdout.write(json.dumps({"version": version, "reason": reason}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
