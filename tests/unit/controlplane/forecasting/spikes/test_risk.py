import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor

from controlplane.bench.forecast.run import feature_names, service_of
from controlplane.bench.forecast.services import history_of, training_case
from controlplane.bench.forecast.traces import trace_of
from controlplane.forecasting.spikes import trailing, training
from controlplane.forecasting.spikes.costs import Costs, fit_costs
from controlplane.forecasting.spikes.fluid import capacity_ahead, outlook
from controlplane.forecasting.spikes.risk import SpikeRisk, UnknownModel, cold_start
from controlplane.forecasting.spikes.trees import Trees
from tests.support.synthetic_traces import made_up

COSTS = Costs(1e-4, 1e-4, 0.01)


@pytest.fixture(scope="module")
def risk() -> SpikeRisk:
    case = training_case(trace_of("x", made_up(4000, seed=1)))
    assert case is not None
    service = service_of(case, COSTS)
    members = training.grow([(service, np.ones(len(service), dtype=bool))], seed=0)
    assert members is not None
    calibration = training.calibrate([service], {"x": training.nearness(members, service.rows)})
    return training.assemble(
        members, calibration, names=feature_names(case, COSTS), costs=COSTS, thresholds={"watch": 0.3, "page": None},
        trained_on={"x": len(case.truth.spikes)},
    )  # fmt: skip


class TestLookingAhead:
    def test_a_shuffled_future_changes_no_risk_up_to_now(self, risk: SpikeRisk) -> None:
        frame = made_up(3000, seed=2)
        cut = 1500
        spoiled = frame.copy()
        rng = np.random.default_rng(0)
        for column in frame.columns.drop("t"):
            spoiled.loc[cut:, column] = rng.permutation(frame[column].to_numpy()[cut:]) * 7
        one, two = (risk.of(history_of(trace_of("x", data)), 1.5) for data in (frame, spoiled))
        assert np.array_equal(one[:cut], two[:cut])
        assert not np.array_equal(one[cut:], two[cut:])

    def test_what_is_said_live_is_what_the_benchmark_scored(self, risk: SpikeRisk) -> None:
        frame = made_up(2000, seed=3)
        whole = risk.of(history_of(trace_of("x", frame)), 1.5)
        for now in (500, 1234, 1999):
            assert risk.newest(history_of(trace_of("x", frame[: now + 1])), 1.5) == pytest.approx(whole[now], abs=1e-9)

    def test_size_of_the_service_does_not_matter(self, risk: SpikeRisk) -> None:
        small, large = (trace_of("x", made_up(3000, seed=4, scale=scale)) for scale in (1.0, 20.0))
        for trace in (small, large):
            case = training_case(trace)
            assert case is not None
            assert len(case.truth.spikes) > 3
            found = risk.of(history_of(trace), case.truth.slo_s)
            before = [found[onset - by] for onset in case.truth.onsets for by in range(2, 8)]
            assert np.mean(before) > 2 * found[~case.truth.blocked].mean()


class TestMissing:
    @pytest.mark.parametrize("column", ["desired", "replicas", "ttft_p50", "kv_usage", "input_tokens", "waiting"])
    def test_a_column_that_nobody_measures_leaves_a_risk(self, risk: SpikeRisk, column: str) -> None:
        frame = made_up(1000, seed=5).drop(columns=column)
        found = risk.of(history_of(trace_of("x", frame)), 1.5)
        assert np.isfinite(found).all()
        assert np.isfinite(cold_start(history_of(trace_of("x", frame)), 1.5, COSTS)).all()


class TestStored:
    def test_comes_back_with_the_same_answers(self, risk: SpikeRisk) -> None:
        past = history_of(trace_of("x", made_up(800, seed=6)))
        again = SpikeRisk.from_bytes(risk.to_bytes())
        assert np.array_equal(again.of(past, 1.5), risk.of(past, 1.5))
        assert again.thresholds == {"watch": 0.3, "page": None}
        assert risk.to_bytes() == again.to_bytes()

    @pytest.mark.parametrize("stored", [b"", b"PK", b"no model at all"])
    def test_other_bytes_are_refused(self, stored: bytes) -> None:
        with pytest.raises(UnknownModel):
            SpikeRisk.from_bytes(stored)


class TestTrees:
    def test_agree_with_the_library_that_grew_them_also_on_missing_values(self) -> None:
        rng = np.random.default_rng(0)
        rows = rng.normal(size=(2000, 5))
        rows[rng.random(rows.shape) < 0.1] = np.nan
        target = np.nan_to_num(rows[:, 0]) * 2 + np.nan_to_num(rows[:, 1] * rows[:, 2])
        grown = HistGradientBoostingRegressor(max_iter=30, random_state=0).fit(rows, target)
        trees = Trees.of(grown)
        assert trees(rows) == pytest.approx(grown.predict(rows), abs=1e-9)
        assert trees(rows[:1])[0] == pytest.approx(trees(rows)[0], abs=1e-12)


class TestCosts:
    def test_are_recovered_from_when_the_autoscaler_asked_for_more(self) -> None:
        rng = np.random.default_rng(1)
        load = np.repeat(rng.uniform(2, 40, 300), 30)
        arrivals = load * 15.0
        prompt, generated = arrivals * rng.uniform(200, 800), arrivals * np.repeat(rng.uniform(50, 400, 300), 30)
        true = Costs(2e-4, 5e-4, 0.0)
        desired = np.ceil(trailing.mean(true.load(arrivals, prompt, generated, 15.0), 20) / 0.9)
        found = fit_costs([(arrivals, prompt, generated, desired)], 15.0)
        assert found is not None
        ratio = found.load(arrivals, prompt, generated, 15.0) / (true.load(arrivals, prompt, generated, 15.0) / 0.9)
        assert np.median(ratio) == pytest.approx(1.0, abs=0.25)

    def test_a_fleet_that_never_scales_says_nothing(self) -> None:
        flat = np.full(500, 10.0)
        assert fit_costs([(flat, flat, flat, flat)], 15.0) is None


class TestFluid:
    def test_a_replica_asked_for_comes_when_its_start_is_over(self) -> None:
        desired = np.array([2.0] * 10 + [3.0] * 30)
        replicas = np.full(40, 2.0)
        # Asked for in window 10; 240 s are 16 windows.
        assert capacity_ahead(replicas, desired, 15.0, 120.0)[10] == 2.0
        assert capacity_ahead(replicas, desired, 15.0, 240.0)[10] == 3.0
        assert capacity_ahead(replicas, desired, 15.0, 120.0)[18] == 3.0

    def test_load_above_capacity_builds_a_backlog_and_load_below_none(self) -> None:
        two = np.full(200, 2.0)
        low, high = (outlook(np.full(200, load), two, two, np.zeros(200), 15.0) for load in (1.5, 2.6))
        assert low.backlog_s[-1] == 0.0
        assert low.breach_s[-1] == 600.0
        assert high.backlog_s[-1] == pytest.approx(0.3 * 600, rel=0.05)
        assert high.breach_s[-1] == 30.0

    def test_a_rising_load_is_seen_before_it_is_there(self) -> None:
        load = np.concatenate([np.full(100, 1.5), 1.5 + 0.02 * np.arange(20)])
        two = np.full(120, 2.0)
        seen = outlook(load, two, two, np.zeros(120), 15.0)
        assert load[-1] < 2.0
        assert seen.utilisation[-1] > 1.0
