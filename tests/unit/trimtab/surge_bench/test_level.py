"""Levels are found again in the fingerprints that nodes put on answers."""

import pytest

from inference_node.contract.settings import EngineSettings, Precision
from inference_node.server.generation import fingerprint
from trimtab.errors import UsageError
from trimtab.surge_bench.level import Level, level_of, levels_in, parse_level, parse_levels


class TestLevelsIn:
    @pytest.mark.parametrize("level", [Level(Precision.BF16), Level(Precision.INT8, 0.25), Level(Precision.INT4)])
    def test_what_a_node_writes_is_read(self, level: Level) -> None:
        written = fingerprint([level.of(EngineSettings()).numerics_key()])
        assert levels_in(written) == (level.name,)

    def test_a_change_on_the_way_names_both_in_order(self) -> None:
        assert levels_in("fp_bf16|model|0.0>int8|model|0.4") == ("bf16", "int8@0.4")

    def test_another_kv_cache_is_another_level(self) -> None:
        assert levels_in("fp_int8|fp8|0.0") == ("int8, fp8 keys and values",)

    @pytest.mark.parametrize("written", [None, "", "fp-5c1f"])
    def test_a_foreign_fingerprint_names_none(self, written: str | None) -> None:
        assert levels_in(written) == ()

    def test_an_unknown_key_is_left_as_it_is(self) -> None:
        assert levels_in("fp_int2|model|0.0") == ("int2|model|0.0",)


class TestParseLevels:
    def test_names_come_back(self) -> None:
        assert [level.name for level in parse_levels("bf16, int8,int8@0.25,bf16", "--levels")] == [
            "bf16",
            "int8",
            "int8@0.25",
        ]

    @pytest.mark.parametrize("text", ["int9", "int8@much", "int8@0.9", ""])
    def test_nonsense_is_refused_with_an_example(self, text: str) -> None:
        with pytest.raises(UsageError, match=r"--levels .*bf16, int8 or int8@0.25"):
            parse_level(text, "--levels")


def test_settings_have_the_level_that_they_were_given() -> None:
    level = Level(Precision.INT8, 0.25)
    assert level_of(level.of(EngineSettings())) == level
