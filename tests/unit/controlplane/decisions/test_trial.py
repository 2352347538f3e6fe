from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine

from controlplane.db import session_scope
from controlplane.decisions.decide import decide
from controlplane.decisions.models import DecisionRecord
from controlplane.decisions.policy import Objective, Policy, Slo
from controlplane.decisions.service import decisions_since, record_decision
from controlplane.decisions.trial import Trial, try_policy
from tests.support.decision_inputs import CALM_RPS, THREAT_RPS, decision_inputs
from tests.support.rollouts_in_sql import lab

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def past(engine: Engine, *loads: float) -> list[DecisionRecord]:
    """Decisions of the default policy, one a minute, newest first."""
    with session_scope(engine) as session:
        pool_id = lab(session).pool.id
        for minute, load in enumerate(loads):
            given = decision_inputs(NOW + timedelta(minutes=minute), load)
            record_decision(session, decide(given), pool_id=pool_id, inputs=given, epoch=1)
        session.flush()
        return list(decisions_since(session, pool_id, NOW))


def tried(records: list[DecisionRecord], policy: Policy, limit_s: float = 60.0) -> Trial:
    return try_policy(records, policy, 1, limit_s=limit_s)


def test_the_policy_that_they_were_made_under_changes_nothing(engine: Engine) -> None:
    found = tried(past(engine, CALM_RPS, THREAT_RPS), Policy())
    assert (found.looked_at, found.proposed, found.would_propose, found.differing) == (2, 1, 1, 0)


def test_a_looser_objective_would_have_held(engine: Engine) -> None:
    found = tried(past(engine, CALM_RPS, THREAT_RPS), Policy(slo=Slo(ttft_p95_s=3600, itl_p95_s=3600)))
    assert (found.proposed, found.would_propose, found.differing) == (1, 0, 1)
    (other,) = found.differences
    assert (other.record.outcome, other.would.outcome) == ("APPLY", "HOLD")


def test_other_settings_are_a_difference_too(engine: Engine) -> None:
    policy = Policy()
    narrow = policy.guardrails.model_copy(update={"max_change_ratio": 1.5})
    found = tried(past(engine, THREAT_RPS), policy.model_copy(update={"guardrails": narrow}))
    assert (found.would_propose, found.differing) == (1, 1)


def test_without_time_the_newest_are_looked_at(engine: Engine) -> None:
    records = past(engine, CALM_RPS, THREAT_RPS, CALM_RPS)
    found = tried(records, Policy(objective=Objective(breach_probability=0.9)), limit_s=0.0)
    assert found.looked_at == 1
