"""The document: who is best in hindsight, and whether the sign holds."""

from typing import Any

import pytest

from inference_node.contract.settings import EngineSettings, Precision
from trimtab.surge_bench.answer import Ending, Objectives, Outcome
from trimtab.surge_bench.budget import Budget
from trimtab.surge_bench.hands import Deeds
from trimtab.surge_bench.level import Level
from trimtab.surge_bench.load import Shape
from trimtab.surge_bench.page import page
from trimtab.surge_bench.policies import Contestant, static_name
from trimtab.surge_bench.report import Run, Terms, results, sign

INT8, INT4 = Level(Precision.INT8), Level(Precision.INT4)
DEFAULT = EngineSettings(max_batch_size=4)
TERMS = Terms(
    Objectives(0.5, 0.1), Budget(INT4, 0.03, 0.06), {"bf16": 0.0, "int8": 0.002, "int4": 0.06}, Shape(100, 10)
)
DEEDS = Deeds(
    [
        {"t_s": 1.0, "what": "decision", "reason": "breach_predicted", "changes": {"precision": ["bf16", "int8"]}, "words": "x"},
        {"t_s": 2.0, "what": "in force", "node": "node-1", "changes": {"precision": ["bf16", "int8"]}},
        {"t_s": 3.0, "what": "rollout", "phase": "COMPLETED", "words": "done"},
    ],
    {"breach_predicted": 1}, 1, 0, 0,
)  # fmt: skip


def _run(name: str, level: str, met: int, *, of: int = 10, repeat: int = 1, batch: int = 4) -> Run:
    settings = DEFAULT.replace(precision=level, max_batch_size=batch)
    contestant = Contestant(name if name != "static" else static_name(settings), settings)
    waits = [0.1] * met + [0.9] * (of - met)
    scored = [
        Outcome(10.0 + k, Ending.ANSWERED, 0.0, 2, 10 + k + w, 10.05 + k + w, (level,)) for k, w in enumerate(waits)
    ]
    warm = Outcome(1.0, Ending.FAILED)
    return Run(contestant, repeat, [warm, *scored], DEEDS if name == "trimtab" else None)


def _rows(*runs: Run) -> dict[str, dict[str, Any]]:
    return {row["policy"]: row for row in results(runs, TERMS)}


class TestResults:
    def test_the_warm_up_is_not_scored(self) -> None:
        row = _rows(_run("default", "bf16", 7))["default"]
        assert (row["requests"], row["failed"], row["slo_attainment"]) == (10, 0, 0.7)

    def test_static_best_is_named_and_not_above_the_budget(self) -> None:
        rows = _rows(
            _run("default", "bf16", 2), _run("static", "int8", 6), _run("static", "int8", 8, batch=16),
            _run("static", "int4", 10),
        )  # fmt: skip
        assert rows["static-best"]["is"] == "static: int8 batch 16"
        assert rows["static: int4 batch 4"]["within_budget"] is False

    def test_of_equals_the_one_that_loses_least(self) -> None:
        assert _rows(_run("static", "int8", 8), _run("default", "bf16", 8))["static-best"]["is"] == "default"

    def test_the_default_alone_is_no_best(self) -> None:
        assert "static-best" not in _rows(_run("default", "bf16", 8), _run("trimtab", "bf16", 9))

    def test_repeats_are_pooled_and_their_spread_is_shown(self) -> None:
        row = _rows(_run("default", "bf16", 2), _run("default", "bf16", 8, repeat=2))["default"]
        assert (row["requests"], row["slo_attainment"]) == (20, 0.5)
        assert row["slo_attainment_by_repeat"]["values"] == [0.2, 0.8]
        assert row["goodput_rps"] == pytest.approx(10 / 200)

    def test_deeds_are_counted(self) -> None:
        row = _rows(_run("trimtab", "int8", 9))["trimtab"]
        assert (row["changes"], row["runs"][0]["reasons"]) == (1, {"breach_predicted": 1})


class TestSign:
    def _sign(self, *runs: Run) -> dict[str, Any]:
        return sign(results(runs, TERMS))

    def test_it_holds_where_each_is_over_the_next(self) -> None:
        found = self._sign(_run("trimtab", "int8", 9), _run("default", "bf16", 2), _run("static", "int8", 6))
        assert (found["trimtab_over_static_best_points"], found["static_best_over_default_points"]) == (30, 40)
        assert found["holds"] is True
        assert len(found["by_repeat"]) == 1

    def test_it_does_not_hold_where_the_budget_was_not_kept(self) -> None:
        found = self._sign(_run("trimtab", "int4", 10), _run("default", "bf16", 2), _run("static", "int8", 6))
        assert (found["order_holds"], found["trimtab_within_budget"], found["holds"]) == (True, False, False)

    def test_it_does_not_hold_the_other_way_round(self) -> None:
        found = self._sign(_run("trimtab", "int8", 5), _run("default", "bf16", 2), _run("static", "int8", 6))
        assert (found["trimtab_over_static_best_points"], found["order_holds"], found["holds"]) == (-10, False, False)

    def test_it_is_not_claimed_where_somebody_is_missing(self) -> None:
        found = self._sign(_run("trimtab", "int8", 9), _run("default", "bf16", 2))
        assert (found["order_holds"], found["holds"], found["by_repeat"]) == (None, False, [])


def test_the_page_shows_every_policy_and_escapes_what_it_was_told() -> None:
    rows = results([_run("trimtab", "int8", 9), _run("default", "bf16", 2), _run("static", "int8", 6)], TERMS)
    report = {
        "machine": {"cpu": "<cpu>", "cores": 2}, "model": "m", "options": {"nodes": 2}, "notes": ["a < b"],
        "objectives": {"ttft_s": 0.5, "mean_gap_ms": 100.0}, "load": {"calm_rps": 1.0, "surge_rps": 2.0},
        "results": rows, "sign": sign(rows),
    }  # fmt: skip
    html = page(report)
    assert all(name in html for name in ("trimtab", "static-best", "static: int8 batch 4", "breach_predicted"))
    assert "a &lt; b" in html
    assert "<cpu>" not in html
