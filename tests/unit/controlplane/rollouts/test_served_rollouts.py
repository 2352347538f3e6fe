"""A rollout that may make answers worse, in SQL: who is asked to score them, what is taken in, and what follows."""

from datetime import datetime, timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.decisions.policy import Policy
from controlplane.fleets import service as fleets
from controlplane.fleets.models import Node
from controlplane.rollouts.models import Analysis, Rollout
from controlplane.rollouts.phases import PausedBy, RolloutPhase, Verb
from controlplane.rollouts.requests import request
from inference_node.contract.served import ServedWatch
from inference_node.contract.settings import KnobValue
from tests.support.registrations import heartbeat_of
from tests.support.rollouts_in_sql import NOW, POLICY, Lab, drive, lab, measure
from tests.support.served_answers import Answers, told, told_of

P = RolloutPhase
PRUNED: dict[str, KnobValue] = {"pruning_threshold": 0.3}


@pytest.fixture
def pool_lab(session: Session) -> Lab:
    return lab(session)


def begun(pool_lab: Lab, **changes: object) -> tuple[Rollout, datetime]:
    rollout = pool_lab.begin(knobs=PRUNED, **changes)  # type: ignore[arg-type]  # as begin's own
    return rollout, drive(pool_lab, rollout, NOW, until=P.CANARY)


def asked(pool_lab: Lab) -> list[Node]:
    return [node for node in pool_lab.nodes() if node.watch is not None]


def go_on(
    pool_lab: Lab, rollout: Rollout, now: datetime, answers: Answers, *, until: P, seconds: int = 300
) -> datetime:
    for _ in range(seconds):
        pool_lab.obey(now)
        for node in asked(pool_lab):
            pool_lab.beat(node, now, served=told_of(node, answers))
        measure(pool_lab, rollout, now)
        pool_lab.step(rollout, now)
        if rollout.phase == until:
            return now
        now += timedelta(seconds=1)
    raise AssertionError(f"still {rollout.phase}, wanted {until}")


def verdicts(pool_lab: Lab) -> list[str]:
    return list(pool_lab.session.scalars(select(Analysis.verdict).order_by(Analysis.at, Analysis.id)))


class TestAsking:
    def test_the_canary_and_nobody_else_is_asked_as_the_policy_says(self, pool_lab: Lab) -> None:
        rollout, now = begun(pool_lab)
        (canary,) = asked(pool_lab)
        part = next(node for node in pool_lab.snapshot(rollout, now).nodes if node.id == canary.id)
        assert part.role.value == "canary"
        watch = ServedWatch.model_validate(canary.watch)
        assert (watch.generation, watch.share, watch.least, watch.most) == (canary.desired_generation, 0.01, 20, 200)
        reply = fleets.heartbeat(pool_lab.session, canary, heartbeat_of(canary), now=now)
        assert reply.watch == watch

    def test_a_change_that_leaves_answers_alone_asks_nobody(self, pool_lab: Lab) -> None:
        drive(pool_lab, pool_lab.begin(), NOW, until=P.CANARY)
        assert asked(pool_lab) == []

    def test_a_policy_may_do_without(self, pool_lab: Lab) -> None:
        served = POLICY.rollout.served.model_copy(update={"share": 0.0})
        policy = POLICY.model_copy(update={"rollout": POLICY.rollout.model_copy(update={"served": served})})
        rollout, now = begun(pool_lab, policy=policy)
        assert asked(pool_lab) == []
        go_on(pool_lab, rollout, now, Answers.SILENT, until=P.COMPLETED)

    def test_the_way_back_ends_the_watch(self, pool_lab: Lab) -> None:
        rollout, now = begun(pool_lab)
        request(pool_lab.session, rollout.id, Verb.ABORT, "alice", now=now)
        drive(pool_lab, rollout, now, until=P.ROLLED_BACK)
        assert asked(pool_lab) == []
        assert all(node.served is None for node in pool_lab.nodes())

    def test_what_is_told_of_another_wish_is_not_taken(self, pool_lab: Lab) -> None:
        begun(pool_lab)
        (canary,) = asked(pool_lab)
        pool_lab.beat(canary, NOW, served=told(Answers.GOOD, canary.desired_generation + 1))
        assert canary.served is None


class TestWhatFollows:
    def test_good_answers_go_on_and_leave_their_figures(self, pool_lab: Lab) -> None:
        rollout, now = begun(pool_lab)
        go_on(pool_lab, rollout, now, Answers.GOOD, until=P.COMPLETED)
        look = pool_lab.session.scalars(select(Analysis)).one()
        kl = next(each for each in look.measurements if each["metric"] == "served_kl")
        assert (look.verdict, kl["verdict"], kl["samples_canary"]) == ("PASS", "PASS", 30)
        assert kl["ci_low"] < kl["canary"] < kl["ci_high"] < kl["margin"]
        assert asked(pool_lab) == []  # and the canary may stop

    @pytest.mark.parametrize("answers", [Answers.BAD, Answers.BROKEN])
    def test_bad_ones_are_taken_back_before_the_look(self, pool_lab: Lab, answers: Answers) -> None:
        rollout, now = begun(pool_lab)
        back = go_on(pool_lab, rollout, now, answers, until=P.ROLLING_BACK)
        assert (back - now).total_seconds() < POLICY.rollout.windows * POLICY.rollout.window_s
        assert verdicts(pool_lab) == ["FAIL"]
        drive(pool_lab, rollout, back, until=P.ROLLED_BACK)
        assert all(node.observed_settings["pruning_threshold"] == 0 for node in pool_lab.nodes())
        look = pool_lab.session.scalars(select(Analysis)).one()
        assert {each["metric"] for each in look.measurements} >= {"served_kl"}

    def test_too_few_are_looked_at_for_as_long_again_and_then_it_waits_for_a_person(self, pool_lab: Lab) -> None:
        rollout, now = begun(pool_lab)
        go_on(pool_lab, rollout, now, Answers.FEW, until=P.PAUSED)
        assert verdicts(pool_lab) == ["INCONCLUSIVE", "INCONCLUSIVE"]
        assert rollout.paused_by == PausedBy.INCONCLUSIVE

    @pytest.mark.parametrize("answers", [Answers.UNABLE, Answers.SILENT])
    def test_none_at_all_are_an_error_whatever_the_policy_says_of_inconclusive_looks(
        self, pool_lab: Lab, answers: Answers
    ) -> None:
        document = POLICY.model_dump() | {"rollout": POLICY.rollout.model_dump() | {"on_inconclusive": "promote"}}
        rollout, now = begun(pool_lab, policy=Policy.model_validate(document))
        now = go_on(pool_lab, rollout, now, answers, until=P.PAUSED)
        assert rollout.paused_by == PausedBy.ERROR
        for _ in range(30):  # the windows are there, which does not lift it
            now += timedelta(seconds=1)
            pool_lab.obey(now)
            measure(pool_lab, rollout, now)
            pool_lab.step(rollout, now)
        assert (rollout.phase, verdicts(pool_lab)) == (P.PAUSED, ["ERROR"])
        go_on(pool_lab, rollout, now, Answers.GOOD, until=P.COMPLETED)  # it tells after all
