"""The whole benchmark on made-up traces: that it ranks as it must, keeps its rules, and says what it could not score."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from controlplane.bench.forecast.document import Measured, measure, write_warnings
from controlplane.bench.forecast.load_race import PRODUCT, race
from controlplane.bench.forecast.plots import page
from controlplane.bench.forecast.services import scored_cases
from controlplane.bench.forecast.traces import read_trace, trace_of
from tests.support.synthetic_traces import made_up
from trimtab.cli.app import app

DAY, KNOWN = 5760, 2400


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    train, test = tmp_path_factory.mktemp("train"), tmp_path_factory.mktemp("test")
    whole = made_up(KNOWN + 1500, seed=1, surge_every=120)
    whole[:KNOWN].to_parquet(train / "known.metrics.parquet")
    whole[KNOWN:].to_parquet(test / "known.metrics.parquet")
    made_up(2000, seed=2, scale=3.0, surge_every=120).to_parquet(train / "other.metrics.parquet")
    made_up(DAY + 1500, seed=3, scale=10.0, surge_every=120).to_parquet(test / "stranger.metrics.parquet")
    made_up(300, seed=4).to_parquet(test / "short.metrics.parquet")
    return train, test


@pytest.fixture(scope="module")
def measured(folders: tuple[Path, Path]) -> Measured:
    train, test = folders
    return measure(train, test, parts=("warnings", "load"), with_lstm=False, seed=0, say=lambda line: None)


class TestDocument:
    def test_each_model_is_scored_on_each_trace_under_both_settings(self, measured: Measured) -> None:
        scored = {(row["trace"], row["model"], row["setting"]) for row in measured.document["results"]}
        for trace in ("known", "stranger"):
            for model in (PRODUCT, "fluid", "p99_persistence", "waiting_queue"):
                assert {(trace, model, "watch"), (trace, model, "page")} <= scored
        assert not any(trace == "short" for trace, _, _ in scored)
        assert any("short: not scored" in note for note in measured.document["notes"])

    def test_surges_that_announce_themselves_are_foreseen_also_on_a_service_never_seen(
        self, measured: Measured
    ) -> None:
        rows = {(row["trace"], row["setting"]): row for row in measured.document["results"] if row["model"] == PRODUCT}
        assert rows["known", "watch"]["f1"] > 0.6
        assert rows["stranger", "watch"]["f1"] > 0.5
        assert rows["stranger", "watch"]["seen"] is False

    def test_every_figure_has_an_interval_around_it(self, measured: Measured) -> None:
        for row in measured.document["results"]:
            for key in ("precision", "recall"):
                interval = row["intervals"][key]
                if row[key] is not None and interval is not None:
                    assert interval[0] <= row[key] <= interval[1]

    def test_it_is_json_and_a_page(self, measured: Measured) -> None:
        assert "NaN" not in json.dumps(measured.document["results"])
        text = page(measured)
        assert text.count("<svg") >= 2
        assert "stranger" in text

    def test_warnings_that_are_kept_are_those_that_were_counted(self, measured: Measured, tmp_path: Path) -> None:
        import pandas as pd

        write_warnings(measured, tmp_path / "w.parquet")
        kept = pd.read_parquet(tmp_path / "w.parquet")
        assert list(kept.columns) == ["trace", "t", "model", "setting", "score"]
        assert len(kept) == sum(row["warnings"] for row in measured.document["results"])


class TestRules:
    def test_the_first_day_of_a_service_never_seen_gives_the_slo_and_is_not_scored(
        self, folders: tuple[Path, Path]
    ) -> None:
        stranger = read_trace(folders[1] / "stranger.metrics.parquet")
        cases, _ = scored_cases([], [stranger])
        assert cases[0].start == DAY
        assert cases[0].truth.slo_s == pytest.approx(5 * np.median(stranger["ttft_p99"][:DAY]))

    def test_a_known_service_goes_on_with_the_slo_of_its_training_part(self, folders: tuple[Path, Path]) -> None:
        train, test = (read_trace(folder / "known.metrics.parquet") for folder in folders)
        cases, _ = scored_cases([train], [test])
        assert cases[0].start == KNOWN
        assert cases[0].truth.slo_s == pytest.approx(5 * np.median(train["ttft_p99"]))


class TestLoadRace:
    def test_the_mixture_is_no_worse_than_the_newest_value(self, measured: Measured) -> None:
        rows = {(r["trace"], r["horizon_s"], r["model"]): r["mase"] for r in measured.document["load"]}
        for (trace, horizon, model), mase in rows.items():
            if model == PRODUCT and trace != "short":
                assert mase <= 1.02 * rows[trace, horizon, "naive"]

    def test_a_shuffled_future_changes_no_forecast_before_it(self) -> None:
        frame = made_up(4000, seed=5)
        cut = 3000
        spoiled = frame.copy()
        spoiled.loc[cut:, "arrivals"] = np.random.default_rng(0).permutation(frame["arrivals"].to_numpy()[cut:]) * 3
        one, two = (race(trace_of("x", data), 2000) for data in (frame, spoiled))
        for before, after in zip(one, two, strict=True):
            known = (cut - 2000) // 4
            assert np.array_equal(before.quantiles[:known], after.quantiles[:known], equal_nan=True)


class TestCommand:
    def test_names_the_folder_that_is_wrong(self, tmp_path: Path) -> None:
        result = CliRunner().invoke(app, ["bench", "forecast", "--train", str(tmp_path / "none")])
        assert result.exit_code != 0
        assert "is no folder" in str(result.exception)
