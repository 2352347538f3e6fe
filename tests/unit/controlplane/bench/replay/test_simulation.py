"""A simulated node keeps the step table, the batch limit and every request."""

import numpy as np
import pandas as pd
import pytest

from controlplane.bench.replay.arrivals import Arrivals, BadRequests, arrivals_of
from controlplane.bench.replay.node import Request, SimulatedNode
from controlplane.bench.replay.pool import Faults, SimulatedPool
from controlplane.bench.replay.step_table import BadStepTable, single, step_table
from controlplane.telemetry.observation import Quality
from inference_node.contract.settings import EngineSettings, Precision
from inference_node.contract.step_profile import StepProfile
from tests.support.replay_tables import cell, levels, profile, table, two_levels


def _arrivals(count: int, gap_s: float, prompt: int = 100, answer: int = 20) -> Arrivals:
    return Arrivals(
        "made", np.arange(count).astype(np.float64) * np.float64(gap_s), np.full(count, prompt), np.full(count, answer)
    )


def test_interpolates_between_cells_and_never_gets_faster_with_more() -> None:
    found = table(noisy=False)
    assert found.step_s(20, 0) == pytest.approx(0.070, rel=0.02)
    assert found.step_s(64, 512) == pytest.approx(0.414, rel=0.02)
    assert (np.diff(found.seconds, axis=0) >= 0).all()
    assert (np.diff(found.seconds, axis=1) >= 0).all()


def test_too_few_cells_are_refused() -> None:
    with pytest.raises(BadStepTable, match="2 cells"):
        step_table(StepProfile(cells=(cell(1, 0), cell(2, 0))), Precision.BF16)


def test_cells_on_one_line_are_refused() -> None:
    cells = tuple(cell(rows, 0) for rows in (1, 2, 4, 8))
    with pytest.raises(BadStepTable, match="one line"):
        step_table(StepProfile(cells=cells), Precision.BF16)


def test_one_request_takes_what_the_table_says() -> None:
    found = table(noisy=False)
    node = SimulatedNode(single(found), 10_000, np.random.default_rng(0))
    request = Request(0.0, prompt=256, answer=11)
    node.waiting.append(request)
    node.run(60.0, EngineSettings(max_batched_tokens=512))
    assert request.first_s is not None
    assert request.first_s == pytest.approx(found.step_s(0, 256))
    assert request.end_s is not None
    assert request.end_s - request.first_s == pytest.approx(10 * found.step_s(1, 0))


def test_taking_alike_steps_at_once_changes_nothing() -> None:
    ends = []
    for stride in (60.0, 0.01):
        node = SimulatedNode(levels(noisy=False), 10_000, np.random.default_rng(0))
        requests = [Request(0.0, 100, answer) for answer in (5, 9, 30)]
        node.waiting.extend(requests)
        for until in np.arange(stride, 60.0 + stride, stride):
            node.run(float(until), EngineSettings(max_batch_size=2))
        ends.append([request.end_s for request in requests])
    assert ends[0] == pytest.approx(ends[1])


def test_a_batch_never_exceeds_its_limit() -> None:
    node = SimulatedNode(levels(), 100_000, np.random.default_rng(0))
    node.waiting.extend(Request(0.0, 50, 20) for _ in range(40))
    node.run(120.0, EngineSettings(max_batch_size=4))
    assert max(rows for _, rows, _, _ in node.tally.steps) == 4
    assert len(node.tally.finished) == 40


def test_kv_limits_what_runs_at_once() -> None:
    node = SimulatedNode(levels(), 300, np.random.default_rng(0))
    node.waiting.extend(Request(0.0, 100, 20) for _ in range(10))
    node.run(120.0, EngineSettings(max_batch_size=8))
    assert max(rows for _, rows, _, _ in node.tally.steps) == 2
    assert len(node.tally.finished) == 10


def test_every_request_is_served_or_lost_and_windows_count_each_once() -> None:
    pool = SimulatedPool(_arrivals(300, 0.2), levels(), EngineSettings(), 2, 65_536, faults=Faults(((0, 20.0, 40.0),)))
    offered = 0.0
    while not pool.ended:
        offered += (pool.window(15.0).offered_rps or 0.0) * 15.0
    assert offered == pytest.approx(300)
    assert all((request.end_s is None) == request.lost for request in pool.requests)
    assert 0 < sum(request.lost for request in pool.requests) < 30


def test_a_telemetry_gap_hides_the_window_and_serves_all_the_same() -> None:
    pool = SimulatedPool(_arrivals(50, 0.5), levels(), EngineSettings(), 1, 65_536, faults=Faults(gaps=((10.0, 20.0),)))
    assert [pool.window(15.0).quality for _ in range(2)] == [Quality.MISSING, Quality.OK]
    assert not any(request.lost for request in pool.requests)


def test_the_same_seed_gives_the_same_run() -> None:
    runs = []
    for _ in range(2):
        pool = SimulatedPool(_arrivals(100, 0.2), levels(), EngineSettings(), 2, 65_536, seed=5)
        runs.append([pool.window(15.0) for _ in range(3)])
    assert runs[0] == runs[1]


def test_requests_are_sorted_and_what_is_no_number_is_left_out() -> None:
    frame = pd.DataFrame({"t": [7.0, 5.0, None], "input_tokens": [3, 0, 1], "output_tokens": [4, 5, 6]})
    found = arrivals_of("x", frame)
    assert found.t.tolist() == [0.0, 2.0]
    assert found.prompt.tolist() == [1, 3]


def test_a_missing_column_is_named() -> None:
    with pytest.raises(BadRequests, match="output_tokens"):
        arrivals_of("x", pd.DataFrame({"t": [1.0], "input_tokens": [1]}))


def test_the_profile_is_kept_for_the_controller() -> None:
    assert table().profile == profile()


def test_a_faster_level_takes_its_own_steps_and_costs_what_it_loses() -> None:
    both = two_levels()
    seen = {}
    for precision in (Precision.BF16, Precision.INT4):
        pool = SimulatedPool(_arrivals(50, 0.5), both, EngineSettings(precision=precision), 1, 65_536)
        while not pool.ended:
            pool.window(15.0)
        seen[precision] = pool
    assert seen[Precision.BF16].quality_loss == 0
    assert seen[Precision.INT4].quality_loss == pytest.approx(0.1)
    ends = [sum(r.end_s - r.arrived_s for r in pool.requests if r.end_s is not None) for pool in seen.values()]
    assert ends[1] < 0.7 * ends[0]


def test_interference_makes_steps_longer_while_it_lasts() -> None:
    ends = []
    for faults in (Faults(), Faults(interference=((0, 0.0, 60.0, 2.0),))):
        pool = SimulatedPool(
            _arrivals(1, 1.0, prompt=256, answer=2), levels(noisy=False), EngineSettings(), 1, 65_536, faults=faults
        )
        pool.window(15.0)
        ends.append(pool.requests[0].first_s or 0.0)
    assert ends[1] == pytest.approx(2 * ends[0])


def test_a_load_scaled_up_keeps_its_shape_and_one_scaled_down_its_requests() -> None:
    made = _arrivals(600, 0.5)
    larger = made.scaled(2.5, seed=1)
    assert len(larger) == pytest.approx(1500, rel=0.05)
    assert (np.diff(larger.t) >= 0).all()
    first, second = (larger.t < 150).sum(), (larger.t >= 150).sum()
    assert first == pytest.approx(second, rel=0.1)
    assert set(made.scaled(0.5, seed=1).t) <= set(made.t)
