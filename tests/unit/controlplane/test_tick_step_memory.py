"""What ticks learn of step times goes on with the next leader, and decisions made with it replay."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from sqlalchemy import Engine, select

from controlplane import tick
from controlplane.db import session_scope
from controlplane.decisions import service as decisions
from controlplane.decisions.decide import decide
from controlplane.decisions.decision import Decision, DecisionInputs
from controlplane.decisions.models import DecisionRecord, PerformanceModelRecord
from controlplane.fleets import service as fleets
from controlplane.settings import ControlPlaneSettings
from controlplane.telemetry.observation import NodeRef, Objectives, Observation, PoolRef
from controlplane.tick import StageFailed, Ticker
from inference_node.contract.settings import Precision
from tests.support.database import memory_database
from tests.support.rollouts_in_sql import NOW
from tests.support.step_law import PROFILE
from tests.unit.controlplane.test_tick import Canned, Clock, Site


class Serving(Canned):
    """Windows whose steps follow a law of their own, the same ones whoever asks."""

    def collect_pool(
        self,
        pool: PoolRef,
        nodes: Sequence[NodeRef],
        at: datetime,
        window_s: float,
        objectives: Objectives | None = None,
    ) -> Observation:
        place = int((at - NOW).total_seconds() // 15)
        rows, prefill = 2.0 + place % 12, 10.0 + 37 * place % 80
        return replace(
            super().collect_pool(pool, nodes, at, window_s),
            step_mean_s=0.026 + 0.00108 * rows + 0.00032 * prefill,
            decode_rows_mean=rows,
            prefill_tokens_mean=prefill,
        )


class TestStepMemory:
    """What was learned of step times goes over to the next leader."""

    def site(self, engine: Engine) -> Site:
        site = Site(engine, Serving())
        with session_scope(engine) as session:
            for node in fleets.list_nodes(session, site.pool_id):
                node.step_profile = PROFILE.model_dump(mode="json")
                node.observed_settings = node.observed_settings | {"precision": "bf16"}
                node.started_at = NOW - timedelta(hours=1)
        return site

    def ticks(self, ticker: Ticker, site: Site, places: range) -> None:
        for place in places:
            ticker.tick(site.pool_id, NOW + timedelta(seconds=15 * place), site.epoch)

    def test_a_takeover_goes_on_bit_for_bit(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        made: list[DecisionInputs] = []

        def watched(inputs: DecisionInputs) -> Decision:
            made.append(inputs)
            return decide(inputs)

        monkeypatch.setattr(tick, "decide", watched)
        alone = self.site(engine)
        self.ticks(alone.ticker, alone, range(60))
        straight = [inputs.step_times for inputs in made]
        made.clear()

        with memory_database() as second:
            shared = self.site(second)
            self.ticks(shared.ticker, shared, range(25))
            for first in range(25, 60, 5):  # a new process each five windows
                fresh = Ticker(second, ControlPlaneSettings(), Clock(), Serving(), monotonic=lambda: 0.0)
                self.ticks(fresh, shared, range(first, first + 5))
        assert [inputs.step_times for inputs in made] == straight
        own = next(step for step in straight[-1] if step.precision is Precision.BF16)
        assert own.at(64, 256) == pytest.approx(0.026 + 0.00108 * 64 + 0.00032 * 256, rel=0.05)
        with session_scope(engine, read_only=True) as session:
            (row,) = session.scalars(select(PerformanceModelRecord)).all()
            assert (row.precision, row.state, row.windows) == ("bf16", "ready", 57)

    def test_a_tick_that_fails_teaches_nothing(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        site = self.site(engine)
        self.ticks(site.ticker, site, range(20))

        def broken(inputs: DecisionInputs) -> Decision:
            raise ZeroDivisionError("a bug")

        with monkeypatch.context() as broke:
            broke.setattr(tick, "decide", broken)
            with pytest.raises(StageFailed):
                self.ticks(site.ticker, site, range(20, 21))
        self.ticks(site.ticker, site, range(21, 22))
        with session_scope(engine, read_only=True) as session:
            assert session.scalars(select(PerformanceModelRecord.windows)).one() == 18

    def test_decisions_made_with_it_replay(self, engine: Engine) -> None:
        site = self.site(engine)
        self.ticks(site.ticker, site, range(20))
        with session_scope(engine, read_only=True) as session:
            for record in session.scalars(select(DecisionRecord)):
                assert decisions.replay(record)[0]
