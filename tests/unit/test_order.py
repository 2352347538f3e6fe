"""The order in which tests run, and that what it names is there."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.support.order import LONGEST, longest_first

TESTS = Path(__file__).parent.parent


def item(name: str) -> Any:
    return SimpleNamespace(nodeid=name)


def test_the_files_it_names_exist() -> None:
    assert [name for name in LONGEST if not (TESTS / name).is_file()] == []
    assert len(set(LONGEST)) == len(LONGEST)


def test_long_files_come_first_and_all_else_stays() -> None:
    names = [
        "tests/a.py::z",
        "tests/a.py::b",
        f"tests/{LONGEST[1]}::T::x",
        "tests/b.py::a",
        f"tests/{LONGEST[0]}::y[tests/a]",
    ]
    found = [each.nodeid for each in longest_first([item(name) for name in names])]
    assert found == [names[4], names[2], names[0], names[1], names[3]]
