"""The books of quality in SQL: read once, kept from tick to tick, and the same for whoever takes a pool over."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine

from controlplane import tick
from controlplane.db import session_scope
from controlplane.decisions import service as decisions
from controlplane.decisions.decide import decide
from controlplane.decisions.decision import Decision, DecisionInputs
from controlplane.decisions.policy import CertifiedVariant, Policy, Quality
from controlplane.fleets import service as fleets
from controlplane.recollection import Recollection
from controlplane.rollouts.models import Rollout, RolloutNode
from controlplane.settings import ControlPlaneSettings
from controlplane.telemetry import service as telemetry
from controlplane.telemetry.observation import Observation
from controlplane.telemetry.observation import Quality as WindowQuality
from controlplane.tick import Ticker
from inference_node.contract.settings import Precision
from tests.support.arms import window
from tests.support.rollouts_in_sql import NOW, lab
from tests.unit.controlplane.test_tick import Canned, Clock

POLICY = Policy(
    quality=Quality(
        max_loss_ratio=0.1,
        average_loss_ratio=0.03,
        average_over_s=3600.0,
        certified=(
            CertifiedVariant(precision=Precision.BF16, quality_loss_ratio=0.0),
            CertifiedVariant(precision=Precision.INT4, quality_loss_ratio=0.06),
        ),
    )
)


def seen(minutes_ago: float, tokens_per_s: float | None, **facts: Any) -> Observation:
    at = NOW - timedelta(minutes=minutes_ago)
    return replace(window(at, window_s=60.0), generation_tokens_per_s=tokens_per_s, **facts)


@pytest.fixture
def led(engine: Engine) -> tuple[str, int]:
    """A pool and the epoch that may write. Fast for the last quarter of an hour, at three times the tokens per second: half of
    all tokens."""
    with session_scope(engine) as session:
        made = lab(session)
        pool = made.pool
        assert pool.current_revision_id is not None
        before = fleets.get_revision(session, pool.current_revision_id)
        pool.created_at = NOW - timedelta(days=1)
        fast = fleets.settings_of(before).replace(precision="int4")
        began = NOW - timedelta(minutes=15)
        after = fleets.create_revision(session, pool, fast, created_by="alice", reason="", now=began)
        rollout = Rollout(
            pool_id=pool.id, from_revision_id=before.id, to_revision_id=after.id, phase="COMPLETED", phase_since=began,
            epoch=made.epoch, plan={}, reason="", created_by="alice", created_at=began, ended_at=began,
        )  # fmt: skip
        session.add(rollout)
        session.flush()
        told = {"state": "APPLIED", "role": "canary", "wave": 0, "dispatched_at": began}
        session.add(RolloutNode(rollout_id=rollout.id, node_id=made.nodes()[0].id, **told))
        for minute in range(60, 0, -1):
            telemetry.save_observations(session, pool.id, seen(minute, 50.0 if minute >= 15 else 150.0))
        decisions.put_policy(session, pool.id, POLICY, based_on=0, actor="alice", now=NOW)
        return pool.id, made.epoch


def test_a_decision_knows_what_the_tokens_of_the_span_lost(
    engine: Engine, led: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = list[DecisionInputs]()

    def heard(inputs: DecisionInputs) -> Decision:
        given.append(inputs)
        return decide(inputs)

    monkeypatch.setattr(tick, "decide", heard)
    pool_id, epoch = led
    Ticker(engine, ControlPlaneSettings(), Clock(), Canned(), monotonic=lambda: 0.0).tick(pool_id, NOW, epoch)
    (inputs,) = given
    assert inputs.quality_spent_ratio == pytest.approx(0.03, rel=0.05)
    assert DecisionInputs.from_json(inputs.to_json()).quality_spent_ratio == inputs.quality_spent_ratio


def test_who_goes_on_and_who_takes_over_have_the_same_book(
    engine: Engine, led: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    (pool_id, _), kept = led, Recollection()
    with session_scope(engine, read_only=True) as session:
        assert kept.book(session, pool_id, NOW, 1, POLICY) is not None
    stale = seen(-2, 9e9, quality=WindowQuality.STALE)
    for newer in (seen(0, 150.0), seen(-1, None), stale, seen(-3, 70.0)):
        kept.remember(pool_id, 1, [newer])
        with session_scope(engine) as session:
            telemetry.save_observations(session, pool_id, newer)
    at = NOW + timedelta(minutes=4)
    with session_scope(engine, read_only=True) as session:
        fresh = Recollection().book(session, pool_id, at, 2, POLICY)
        with monkeypatch.context() as patched:
            patched.setattr(telemetry, "token_rates", lambda *_: 1 / 0)
            mine = kept.book(session, pool_id, at, 1, POLICY)
            with pytest.raises(ZeroDivisionError):
                kept.book(session, pool_id, at, 2, POLICY)
    assert mine is not None and fresh is not None
    for since in (-50, -15, -3, 0, 1, 3):
        stretch = (NOW + timedelta(minutes=since), at)
        assert mine.between(*stretch) == pytest.approx(fresh.between(*stretch))
    assert mine.between(NOW - timedelta(minutes=1), at) == pytest.approx(((150.0 + 70.0) * 60, 120.0))


def test_a_pool_without_a_budget_has_no_book(engine: Engine, led: tuple[str, int]) -> None:
    with session_scope(engine, read_only=True) as session:
        assert Recollection().book(session, led[0], NOW, 1, Policy()) is None
