"""Records on disk: they survive a restart, and nothing that was measured otherwise counts."""

from pathlib import Path

from inference_node.contract.settings import Precision
from inference_node.quality.records import QualityRecords
from tests.support.quality_records import quality_record


def _records(folder: Path, model: str = "model-1", arithmetic: str = "code-1") -> QualityRecords:
    return QualityRecords(folder / "quality" / "records.json", model=model, arithmetic=arithmetic)


class TestQualityRecords:
    def test_survive_a_restart(self, tmp_path: Path) -> None:
        record = quality_record(Precision.INT4, 0.25)
        _records(tmp_path).add(record)

        assert _records(tmp_path).all == (record,)

    def test_the_newest_of_a_level_takes_the_place_of_the_older(self, tmp_path: Path) -> None:
        records = _records(tmp_path)
        records.add(quality_record(kl_mean=0.1))
        records.add(quality_record(kl_mean=0.2))

        assert [record.kl_mean for record in records.all] == [0.2]

    def test_are_void_for_another_model_or_other_code(self, tmp_path: Path) -> None:
        _records(tmp_path).add(quality_record())

        assert _records(tmp_path, model="model-2").all == ()
        assert _records(tmp_path, arithmetic="code-2").all == ()

    def test_those_of_another_process_are_kept(self, tmp_path: Path) -> None:
        node, bench = _records(tmp_path), _records(tmp_path)
        bench.add(quality_record(Precision.INT4))
        node.add(quality_record(Precision.INT8))

        assert {record.precision for record in _records(tmp_path).all} == {Precision.INT4, Precision.INT8}

    def test_a_damaged_file_counts_as_none(self, tmp_path: Path) -> None:
        records = _records(tmp_path)
        records.add(quality_record())
        for damage in ('{"version": 1', '{"version": 1, "records": [{}]}', "[]", '{"version": 2, "records": []}'):
            (tmp_path / "quality" / "records.json").write_text(damage)
            assert _records(tmp_path).all == (), damage

    def test_a_folder_that_cannot_be_written_costs_no_more_than_the_file(self, tmp_path: Path) -> None:
        (tmp_path / "quality").write_text("a file where the folder should be")
        records = _records(tmp_path)
        records.add(quality_record())

        assert len(records.all) == 1

    def test_come_by_precision_and_level(self, tmp_path: Path) -> None:
        records = _records(tmp_path)
        for precision, level in ((Precision.INT4, 0.0), (Precision.INT8, 0.4), (Precision.INT8, 0.0)):
            records.add(quality_record(precision, level))

        assert [(r.precision, r.pruning_threshold) for r in records.all] == [
            (Precision.INT8, 0.0),
            (Precision.INT8, 0.4),
            (Precision.INT4, 0.0),
        ]
        assert [r.pruning_threshold for r in records.of(Precision.INT8)] == [0.0, 0.4]
