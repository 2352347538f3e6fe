"""Ratios repeat by repeat."""

from typing import Any

import pytest

from inference_node.bench.comparison import paired, ratios


class TestPaired:
    def test_divides_each_repeat_by_its_own_partner(self) -> None:
        # The machine was half as fast in the second repeat: the ratio does not move.
        assert paired([100, 50, 120], [50, 25, 40]) == {"median": 2.0, "min": 2.0, "max": 3.0, "n": 3}

    def test_nothing_to_compare_is_none(self) -> None:
        assert paired([], []) is None and paired([1.0], [0.0]) is None


def row(engine: str, precision: str, values: list[float], concurrency: int = 1) -> dict[str, Any]:
    return {
        "contender": f"{engine} {precision}",
        "engine": engine,
        "precision": precision,
        "concurrency": concurrency,
        "by_repeat": {"rate": values},
    }


class TestRatios:
    def test_the_best_peer_is_of_the_same_precision_and_load(self) -> None:
        rows = [
            row("trimtab", "bf16", [10, 12]),
            row("a", "bf16", [5, 5]),
            row("b", "bf16", [8, 8]),
            row("c", "int8", [99, 99]),
            row("a", "bf16", [99, 99], concurrency=8),
        ]
        compared = {found["peer"]: found for found in ratios(rows, {"rate": "ratio"})}
        assert {peer: found["best_peer"] for peer, found in compared.items()} == {
            "a bf16": False,
            "b bf16": True,
            "c int8": False,
        }
        assert compared["b bf16"]["ratio"]["median"] == pytest.approx(1.375)
        assert not compared["c int8"]["same_precision"]

    def test_what_is_pruned_stands_beside_its_dense_form_too(self) -> None:
        pruned = row("trimtab", "int8", [12]) | {"contender": "pruned", "pruning_threshold": 0.4}
        dense = [
            row("trimtab", "int8", [10]),
            row("trimtab", "int8", [70], concurrency=8),
            row("trimtab", "int4", [11]),
        ]
        rows = [pruned, *dense, row("a", "int8", [6])]
        found = ratios(rows, {"rate": "ratio"})
        mine = {each["peer"]: each for each in found if each["contender"] == "pruned"}
        assert {peer: each["ratio"]["median"] for peer, each in mine.items()} == {"a int8": 2.0, "trimtab int8": 1.2}
        assert mine["a int8"]["best_peer"] and not mine["trimtab int8"]["best_peer"]

    def test_alone_there_is_nothing_to_compare(self) -> None:
        assert ratios([row("trimtab", "bf16", [1])], {"rate": "ratio"}) == []
