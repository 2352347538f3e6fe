from pathlib import Path

import numpy as np
import pytest

from controlplane.bench.forecast.traces import BadTraces, read_folder, trace_of
from tests.support.synthetic_traces import made_up


class TestReading:
    def test_every_metrics_file_of_the_folder_is_a_service(self, tmp_path: Path) -> None:
        made_up(50).to_parquet(tmp_path / "b.metrics.parquet")
        made_up(60).to_parquet(tmp_path / "a.metrics.parquet")
        (tmp_path / "README.md").write_text("no trace")
        assert [(trace.name, len(trace)) for trace in read_folder(tmp_path)] == [("a", 60), ("b", 50)]

    def test_says_which_folder_is_empty_and_what_it_should_hold(self, tmp_path: Path) -> None:
        with pytest.raises(BadTraces, match=r"holds no file called NAME\.metrics\.parquet"):
            read_folder(tmp_path)

    def test_says_which_file_is_no_parquet(self, tmp_path: Path) -> None:
        (tmp_path / "x.metrics.parquet").write_bytes(b"no parquet at all")
        with pytest.raises(BadTraces, match=r"x\.metrics\.parquet cannot be read"):
            read_folder(tmp_path)

    def test_names_the_column_that_is_missing(self, tmp_path: Path) -> None:
        made_up(50).drop(columns="ttft_p99").to_parquet(tmp_path / "x.metrics.parquet")
        with pytest.raises(BadTraces, match="lacks the column ttft_p99"):
            read_folder(tmp_path)


class TestLiberality:
    def test_columns_that_are_not_needed_may_be_absent(self) -> None:
        trace = trace_of("x", made_up(50)[["t", "arrivals", "ttft_p99"]])
        assert np.isnan(trace["waiting"]).all()
        assert "no column waiting" in trace.notes

    def test_a_missing_window_is_filled_and_told(self) -> None:
        frame = made_up(50).drop(index=20)
        trace = trace_of("x", frame)
        assert len(trace) == 50
        assert trace["arrivals"][20] == trace["arrivals"][19]
        assert "1 windows missing, filled with the one before" in trace.notes

    def test_rows_out_of_order_and_twice_are_put_right(self) -> None:
        frame = made_up(50)
        shuffled = frame.sample(frac=1.0, random_state=1)
        assert np.array_equal(trace_of("x", shuffled)["arrivals"], trace_of("x", frame)["arrivals"])

    def test_negative_and_infinite_values_count_as_not_measured(self) -> None:
        frame = made_up(50)
        frame.loc[7, "ttft_p99"] = -1.0
        frame.loc[8, "ttft_p99"] = np.inf
        assert np.isnan(trace_of("x", frame)["ttft_p99"][[7, 8]]).all()

    def test_text_in_a_column_is_refused_by_name(self) -> None:
        frame = made_up(50).astype({"arrivals": object})
        frame.loc[3, "arrivals"] = "many"
        with pytest.raises(BadTraces, match="column arrivals holds something that is no number"):
            trace_of("x", frame)

    def test_a_second_part_goes_on_whether_its_clock_goes_on_or_starts_anew(self) -> None:
        first = trace_of("x", made_up(50))
        second = made_up(60, seed=2)
        anew = first.then(trace_of("x", second))
        going_on = first.then(trace_of("x", second.assign(t=second["t"] + first.t[-1])))
        assert np.array_equal(anew.t, going_on.t)
        assert len(anew) == 110

    def test_a_second_part_that_repeats_the_first_adds_only_what_is_new(self) -> None:
        whole = made_up(110)
        joined = trace_of("x", whole[:50]).then(trace_of("x", whole))
        assert np.array_equal(joined["arrivals"], whole["arrivals"])
