import pytest

from controlplane.decisions.policy import Policy
from controlplane.rollouts.ladder import ladder
from controlplane.rollouts.phases import RolloutPhase
from controlplane.rollouts.plan import Candidate, Mode, make_plan
from tests.support.arms import plan

P = RolloutPhase


def states(phase: RolloutPhase, reached: RolloutPhase | None = None, step: int = 0) -> list[str]:
    return [rung.state for rung in ladder(plan(), phase, step, reached=reached)]


@pytest.mark.parametrize(
    ("phase", "expected"),
    [
        (P.PENDING_APPROVAL, ["pending"] * 5),
        (P.SCHEDULED, ["pending"] * 5),
        (P.VALIDATING, ["active", "pending", "pending", "pending", "pending"]),
        (P.ANALYZING, ["done", "done", "active", "pending", "pending"]),
        (P.PROMOTING, ["done", "done", "done", "active", "pending"]),
        (P.BAKING, ["done", "done", "done", "done", "active"]),
        (P.COMPLETED, ["done", "done", "done", "done", "done"]),
    ],
)
def test_climbs(phase: RolloutPhase, expected: list[str]) -> None:
    assert states(phase, step=1) == expected


def test_a_pause_shows_where() -> None:
    assert states(P.PAUSED, P.ANALYZING) == ["done", "done", "paused", "pending", "pending"]


def test_a_way_back_shows_what_failed_and_what_never_came() -> None:
    assert states(P.ROLLED_BACK, P.ANALYZING) == ["done", "done", "failed", "skipped", "skipped"]


def test_one_that_was_refused_never_began() -> None:
    assert states(P.REJECTED, P.PENDING_APPROVAL) == ["skipped"] * 5


def test_rungs_name_their_nodes() -> None:
    found = ladder(plan(), P.VALIDATING, 0)
    assert [(rung.name, rung.nodes) for rung in found] == [
        ("baseline", 0), ("canary", 1), ("analysis", 0), ("wave 1", 1), ("bake", 0)
    ]  # fmt: skip


def test_a_direct_one_has_a_single_rung() -> None:
    direct = make_plan([Candidate("a", "a", True), Candidate("b", "b", True)], Policy(), Mode.DIRECT)
    assert [(rung.name, rung.nodes, rung.state) for rung in ladder(direct, P.COMPLETED, 1)] == [
        ("all nodes", 2, "done")
    ]
