"""Reports as tables."""

from typing import Any

import pytest

from inference_node.bench.report import Table, figure, tables
from inference_node.errors import Invalid
from tests.support.quality_records import quality_record

NO_TIMES: dict[str, Any] = {"mean": None, "p50": None, "p95": None, "p99": None, "n": 0}
HARDWARE = {"cpu": "A CPU", "cores": 2, "memory_mb": 4096}


class TestFigure:
    @pytest.mark.parametrize(
        ("value", "text"), [(None, "-"), (0.01234, "0.0123"), (12.345, "12.3"), (756.4, "756"), (11907.2, "11,907")]
    )
    def test_three_places_that_count(self, value: float | None, text: str) -> None:
        assert figure(value) == text


class TestTable:
    def test_markdown(self) -> None:
        table = Table("Speed", ("who", "how"), (("us", "1"), ("them", "2")), ("A note.",))
        assert table.markdown().splitlines() == [
            "**Speed**",
            "",
            "| who | how |",
            "| --- | --- |",
            "| us | 1 |",
            "| them | 2 |",
            "",
            "A note.",
        ]


class TestTables:
    def reconfiguration(self, foreign: float) -> dict[str, Any]:
        return {
            "benchmark": "reconfigure",
            "model": "m",
            "hardware": HARDWARE,
            "load": {"streams": 8},
            "itl_steady_ms": {**NO_TIMES, "p99": 10.0},
            "itl_changing_ms": {**NO_TIMES, "p99": 15.0},
            "itl_p99_ratio": 1.5,
            "kinds": [
                {
                    "kind": "batch",
                    "applied": 3,
                    "steps": {"min": 1.0, "p50": 1.0, "max": 2.0},
                    "apply_ms": {**NO_TIMES, "p50": 9.0, "max": 12.0},
                }
            ],
            "occupancy": {"foreign_ratio": foreign, "stolen_ratio": 0.0},
            "disturbed": foreign > 0.05,
            **dict.fromkeys(
                (
                    "changes",
                    "applied",
                    "refused",
                    "answers",
                    "failed_requests",
                    "truncated_requests",
                    "duplicated_tokens",
                    "lost_tokens",
                ),
                7,
            ),
        }

    def test_a_reconfiguration(self) -> None:
        truth, kinds = tables(self.reconfiguration(0.01))
        assert ("ITL p99, changing over steady", "1.5") in truth.rows
        assert kinds.rows == (("batch", "3", "1/1/2", "9/-/12"),)
        assert "disturbed" not in " ".join(truth.notes)

    def test_a_disturbed_one_says_so(self) -> None:
        truth, _ = tables(self.reconfiguration(0.2))
        assert "20 %" in truth.notes[-1] and "disturbed" in truth.notes[-1]

    @pytest.mark.parametrize("document", [{}, {"benchmark": "poetry"}])
    def test_what_is_no_report_is_refused(self, document: dict[str, Any]) -> None:
        with pytest.raises(Invalid, match="engine, reconfigure"):
            tables(document)

    def test_a_damaged_report_says_what_is_missing(self) -> None:
        with pytest.raises(Invalid, match="load"):
            tables({"benchmark": "engine"})


class TestQuality:
    def test_a_level_is_a_row_with_its_standing(self) -> None:
        rows = [
            quality_record().model_dump(mode="json") | {"standing": "certified"},
            quality_record(pruning_threshold=0.4, kept_ratio=0.6).model_dump(mode="json") | {"standing": "failed"},
        ]
        ceiling = {"max_perplexity_ratio": 1.15, "max_kl": 0.3}

        (table,) = tables({"benchmark": "quality", "model": "small", "ceiling": ceiling, "results": rows})

        assert [(row[0], row[2], row[-1]) for row in table.rows] == [
            ("int8", "1.0050 ± 0.0020", "certified"),
            ("int8@0.4", "1.0050 ± 0.0020", "failed"),
        ]
        assert "3,000 tokens" in table.notes[0]
