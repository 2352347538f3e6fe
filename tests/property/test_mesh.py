"""What holds for every split, whatever the nodes' states."""

from hypothesis import given
from hypothesis import strategies as st

from controlplane.decisions.mesh_policy import MeshKind, MeshPolicy
from controlplane.mesh.manifests import route
from controlplane.mesh.split import Arm, Place, split
from controlplane.rollouts.phases import NodeState, RolloutPhase
from tests.support.mesh_schemas import problems

weights = st.lists(st.integers(0, 100), max_size=6).map(sorted)
meshes = st.builds(
    lambda kind, steps, ratio: MeshPolicy(
        kind=kind, route="chat", baseline_service="old", canary_service="new", port=80, step_weights=tuple(steps),
        abort_baseline_ratio=ratio,
    ),
    st.sampled_from(MeshKind), weights, st.floats(0, 1),
)  # fmt: skip
nodes = st.lists(st.tuples(st.booleans(), st.integers(0, 4), st.sampled_from(NodeState)), max_size=30).map(
    lambda rows: [Place(f"node-{k}", *row) for k, row in enumerate(rows)]
)


@given(nodes, st.sampled_from(RolloutPhase), meshes)
def test_no_request_goes_to_an_arm_without_nodes(places: list[Place], phase: RolloutPhase, mesh: MeshPolicy) -> None:
    shared = split(places, phase, mesh)
    assert 0 <= shared.canary_weight <= 100
    assert set(shared.arms) == {place.name for place in places}
    if not shared.names(Arm.CANARY):
        assert shared.canary_weight == 0
    elif not shared.names(Arm.BASELINE):
        assert shared.canary_weight == 100
    assert problems(route(mesh, shared, pool="a/b", generation=1)) == []


@given(nodes, meshes)
def test_a_way_back_never_sends_more_to_the_new_settings_than_their_nodes_share(
    places: list[Place], mesh: MeshPolicy
) -> None:
    back = split(places, RolloutPhase.ROLLING_BACK, mesh)
    fair = split(places, RolloutPhase.PROMOTING, mesh.model_copy(update={"step_weights": ()}))
    assert back.canary_weight <= fair.canary_weight


@given(nodes, meshes)
def test_one_more_node_on_the_new_settings_never_takes_requests_from_them(
    places: list[Place], mesh: MeshPolicy
) -> None:
    fair = mesh.model_copy(update={"step_weights": ()})
    before = [Place(place.name, True, place.wave, place.state) for place in places]
    for k, place in enumerate(before):
        if place.arm is Arm.BASELINE:
            after = [*before[:k], Place(place.name, True, place.wave, NodeState.APPLIED), *before[k + 1 :]]
            phase = RolloutPhase.PROMOTING
            assert split(after, phase, fair).canary_weight >= split(before, phase, fair).canary_weight
            return
