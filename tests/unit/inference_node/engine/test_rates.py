"""The machine's rates: measured once, kept, and not believed when the file is damaged."""

from pathlib import Path

import pytest

from inference_node.engine import rates
from inference_node.engine.rates import Rates, known_rates, measure

KNOWN = Rates(read_bytes_per_s=1e10, working_set_bytes=1 << 20, flops_per_s={"fp32": 1e11}, threads=2)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Working sets that were measured; nothing really is."""
    sizes: list[int] = []

    def fake(working_set_bytes: int) -> Rates:
        sizes.append(working_set_bytes)
        return KNOWN

    monkeypatch.setattr(rates, "measure", fake)
    return sizes


def test_are_measured_once_for_a_machine(tmp_path: Path, measured: list[int]) -> None:
    assert known_rates(tmp_path, "a", 5) == known_rates(tmp_path, "a", 5) == KNOWN
    assert measured == [5]
    known_rates(tmp_path, "b", 6)
    assert measured == [5, 6]


def test_are_measured_again_when_the_file_is_damaged(tmp_path: Path, measured: list[int]) -> None:
    (tmp_path / "a.json").write_text("{")
    assert known_rates(tmp_path, "a", 5) == KNOWN
    assert measured == [5]


def test_that_cannot_be_kept_are_used_all_the_same(tmp_path: Path, measured: list[int]) -> None:
    (tmp_path / "file").write_text("")
    assert known_rates(tmp_path / "file", "a", 5) == KNOWN


def test_measuring_finds_something_and_keeps_to_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "_BUDGET_S", 0.0)
    found = measure((1 << 20) + 17)
    assert found.working_set_bytes == 1 << 20
    assert found.read_bytes_per_s > 0 and set(found.flops_per_s) == {"fp32", "bf16"}
    assert all(rate > 0 for rate in found.flops_per_s.values())
