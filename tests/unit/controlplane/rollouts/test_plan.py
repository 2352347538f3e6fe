import pytest

from controlplane.decisions.policy import Policy
from controlplane.rollouts.plan import Candidate, Mode, NoNodeReady, Role, RolloutPlan, canary_size, make_plan


def nodes(count: int, *, ready: bool = True) -> list[Candidate]:
    return [Candidate(f"id-{k:03}", f"node-{k:03}", ready) for k in range(count)]


class TestMakePlan:
    def test_of_two_nodes_is_canary_then_rest(self) -> None:
        plan = make_plan(nodes(2), Policy())
        assert plan.canary == ("id-000",)
        assert plan.control == ("id-001",)
        assert plan.waves == (("id-001",),)

    def test_of_one_node_has_neither_control_nor_wave(self) -> None:
        plan = make_plan(nodes(1), Policy())
        assert (plan.canary, plan.control, plan.waves) == (("id-000",), (), ())

    @pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 10, 20, 33, 100])
    def test_holds_each_node_exactly_once(self, count: int) -> None:
        plan = make_plan(nodes(count), Policy())
        ids = [*plan.canary, *(id_ for wave in plan.waves for id_ in wave)]
        assert sorted(ids) == [node.id for node in nodes(count)]
        assert plan.nodes == count

    def test_waves_reach_a_quarter_a_half_and_all(self) -> None:
        plan = make_plan(nodes(100), Policy())
        reached = len(plan.canary)
        shares = [reached := reached + len(wave) for wave in plan.waves]
        assert (len(plan.canary), shares) == (5, [25, 50, 100])

    def test_control_goes_in_the_last_wave(self) -> None:
        plan = make_plan(nodes(20), Policy())
        assert set(plan.control) <= set(plan.waves[-1])
        assert plan.role_of(plan.control[0]) is Role.CONTROL

    def test_takes_a_ready_node_as_canary(self) -> None:
        found = [Candidate("a", "a", False), Candidate("b", "b", True), Candidate("c", "c", True)]
        plan = make_plan(found, Policy())
        assert (plan.canary, plan.control) == (("b",), ("c",))
        assert plan.wave_of("a") >= 1

    def test_refuses_a_pool_without_a_ready_node(self) -> None:
        with pytest.raises(NoNodeReady, match="node-000, node-001"):
            make_plan(nodes(2, ready=False), Policy())

    def test_direct_reaches_all_at_once(self) -> None:
        plan = make_plan(nodes(30), Policy(), Mode.DIRECT)
        assert (plan.canary, plan.control, [len(wave) for wave in plan.waves]) == ((), (), [30])

    def test_survives_json(self) -> None:
        plan = make_plan(nodes(9), Policy())
        assert RolloutPlan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize(("count", "size"), [(1, 1), (2, 1), (10, 1), (20, 1), (21, 2), (40, 2), (100, 5)])
def test_canary_is_five_percent_and_at_least_one(count: int, size: int) -> None:
    assert canary_size(count) == size


@pytest.mark.parametrize(("count", "tolerated"), [(2, 1), (9, 1), (20, 2), (100, 10)])
def test_one_node_or_a_tenth_may_be_silent(count: int, tolerated: int) -> None:
    assert make_plan(nodes(count), Policy()).tolerated_unreachable == tolerated
