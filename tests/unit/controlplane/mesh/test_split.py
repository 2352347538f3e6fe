from controlplane.decisions.mesh_policy import MeshKind, MeshPolicy
from controlplane.mesh.split import Arm, Place, split
from controlplane.rollouts.phases import NodeState, RolloutPhase

P, S = RolloutPhase, NodeState


def mesh(**changes: object) -> MeshPolicy:
    names = {"route": "chat", "baseline_service": "chat-old", "canary_service": "chat-new", "port": 80}
    return MeshPolicy.model_validate({"kind": MeshKind.ISTIO, **names, **changes})


def places(*states: NodeState | None, waves: tuple[int | None, ...] = ()) -> list[Place]:
    """node-1 is the canary (wave 0), each other one a wave of its own unless `waves` says otherwise."""
    numbers = waves or tuple(range(len(states)))
    return [Place(f"node-{k + 1}", wave=numbers[k], state=state) for k, state in enumerate(states)]


class TestWithoutACanary:
    def test_the_baseline_has_everything_while_no_rollout_is_under_way(self) -> None:
        shared = split(places(None, None), None, mesh())
        assert (shared.canary_weight, shared.names(Arm.BASELINE)) == (0, ["node-1", "node-2"])

    def test_nodes_are_level_again_when_it_has_completed(self) -> None:
        shared = split(places(S.APPLIED, S.APPLIED), P.COMPLETED, mesh())
        assert (shared.canary_weight, shared.names(Arm.CANARY)) == (0, [])

    def test_a_change_straight_to_all_nodes_has_no_canary_arm(self) -> None:
        assert split(places(S.APPLIED, S.DISPATCHED), P.PROMOTING, mesh(), direct=True).canary_weight == 0

    def test_settings_that_are_not_confirmed_bring_no_requests(self) -> None:
        shared = split(places(S.DISPATCHED, S.PENDING), P.CANARY, mesh(step_weights=(50,)))
        assert (shared.canary_weight, shared.names(Arm.CANARY)) == (0, [])


class TestInProportion:
    def test_each_node_keeps_its_load(self) -> None:
        assert split(places(S.APPLIED, *[S.PENDING] * 3), P.ANALYZING, mesh()).canary_weight == 25

    def test_it_follows_the_nodes_within_a_wave(self) -> None:
        assert split(places(S.APPLIED, S.APPLIED, S.DISPATCHED, S.PENDING), P.PROMOTING, mesh()).canary_weight == 50

    def test_nodes_that_are_out_of_reach_count_for_nothing(self) -> None:
        some = [*places(S.APPLIED, S.PENDING, S.PENDING), Place("node-4", reachable=False, wave=3, state=S.UNREACHABLE)]
        assert split(some, P.ANALYZING, mesh()).canary_weight == 33

    def test_a_canary_out_of_reach_gets_none(self) -> None:
        some = [Place("node-1", reachable=False, wave=0, state=S.APPLIED), *places(S.PENDING, S.PENDING)]
        assert split(some, P.ANALYZING, mesh()).canary_weight == 0

    def test_when_nobody_is_known_to_be_there_numbers_decide(self) -> None:
        some = [Place("node-1", False, 0, S.APPLIED), Place("node-2", False, 1, S.PENDING)]
        assert split(some, P.ANALYZING, mesh()).canary_weight == 50

    def test_one_of_a_thousand_gets_a_percent(self) -> None:
        assert split(places(S.APPLIED, *[S.PENDING] * 999), P.ANALYZING, mesh()).canary_weight == 1

    def test_a_pause_holds_it_where_it_is(self) -> None:
        assert split(places(S.APPLIED, S.PENDING), P.PAUSED, mesh()).canary_weight == 50

    def test_all_of_it_when_all_nodes_have_the_new_settings(self) -> None:
        assert split(places(S.APPLIED, S.APPLIED), P.BAKING, mesh()).canary_weight == 100


class TestByTheStepsOfThePolicy:
    STEPS = mesh(step_weights=(5, 30, 60))

    def test_the_first_counts_once_the_canary_is_through(self) -> None:
        assert split(places(S.APPLIED, S.PENDING, S.PENDING), P.ANALYZING, self.STEPS).canary_weight == 5

    def test_the_next_waits_for_its_whole_wave(self) -> None:
        waves = (0, 1, 1, 2)
        half = places(S.APPLIED, S.APPLIED, S.DISPATCHED, S.PENDING, waves=waves)
        whole = places(S.APPLIED, S.APPLIED, S.APPLIED, S.PENDING, waves=waves)
        assert split(half, P.PROMOTING, self.STEPS).canary_weight == 5
        assert split(whole, P.PROMOTING, self.STEPS).canary_weight == 30

    def test_a_node_that_is_left_out_holds_no_wave_up(self) -> None:
        some = places(S.APPLIED, S.APPLIED, S.QUARANTINED, S.PENDING, waves=(0, 1, 1, 2))
        assert split(some, P.PROMOTING, self.STEPS).canary_weight == 30

    def test_the_last_holds_for_the_waves_after_it(self) -> None:
        some = places(S.APPLIED, S.APPLIED, S.APPLIED, S.APPLIED, S.PENDING)
        assert split(some, P.PROMOTING, self.STEPS).canary_weight == 60


class TestRollingBack:
    def test_the_old_settings_take_everything_where_they_can(self) -> None:
        shared = split(places(S.REVERTING, S.PENDING, S.PENDING), P.ROLLING_BACK, mesh())
        assert (shared.canary_weight, shared.names(Arm.CANARY)) == (0, ["node-1"])

    def test_too_few_of_them_are_not_drowned(self) -> None:
        some = places(S.REVERTING, S.REVERTING, S.REVERTING, S.PENDING)
        assert split(some, P.ROLLING_BACK, mesh()).canary_weight == 75
        assert split(some, P.ROLLING_BACK, mesh(abort_baseline_ratio=0.25)).canary_weight == 0

    def test_requests_follow_the_nodes_as_they_are_back(self) -> None:
        some = places(S.REVERTING, S.REVERTED, S.PENDING, S.PENDING)
        assert split(some, P.ROLLING_BACK, mesh()).names(Arm.CANARY) == ["node-1"]

    def test_with_no_node_left_on_them_the_new_ones_go_on_serving(self) -> None:
        assert split(places(S.REVERTING, S.REVERTING), P.ROLLING_BACK, mesh()).canary_weight == 100
