"""What a node writes down: kept over restarts, bounded, told in parts, each until it is taken."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from inference_node.agent.history import History
from inference_node.contract.history import WINDOWS_AT_ONCE, ChangedBy, NodeChange, NodeWindow

START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


def window(number: int) -> NodeWindow:
    end = START + timedelta(seconds=15 * number)
    return NodeWindow(end=end, window_s=15, increases={"steps": number}, gauges={}, buckets={})


def change(number: int) -> NodeChange:
    at = START + timedelta(seconds=number)
    return NodeChange(at=at, by=ChangedBy.OPERATOR, generation=3, changes={"max_batch_size": (8, number)})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "node" / "history.jsonl"


def told(history: History) -> list[int]:
    """Numbers of the windows of all parts, each taken."""
    found: list[int] = []
    while (part := history.next_part()) is not None:
        found += [int(each.increases["steps"]) for each in part.windows]
        history.taken(part)
    return found


class TestKept:
    def test_over_a_restart(self, path: Path) -> None:
        history = History(path)
        for number in range(5):
            history.add_window(window(number))
        history.add_change(change(1))
        part = History(path).next_part()
        assert part is not None
        assert (part.windows, part.changes) == (tuple(map(window, range(5))), (change(1),))
        assert part.away_since == START

    def test_no_more_than_a_bound_and_the_oldest_make_room(self, path: Path) -> None:
        history = History(path, most_windows=10, most_changes=2)
        for number in range(100):
            history.add_window(window(number))
        assert told(history) == list(range(90, 100))
        assert len(path.read_text().splitlines()) < 30

    def test_a_torn_line_costs_that_line(self, path: Path) -> None:
        history = History(path)
        for number in range(3):
            history.add_window(window(number))
        path.write_text(path.read_text()[:-30] + "\n")
        assert told(History(path)) == [0, 1]

    def test_a_folder_that_cannot_be_written_costs_nothing_in_memory(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        history = History(tmp_path / "file" / "history.jsonl")
        history.add_window(window(1))
        assert told(history) == [1]

    def test_nothing_is_no_part(self, path: Path) -> None:
        assert History(path).next_part() is None


class TestTold:
    def test_in_parts_oldest_first_under_numbers_that_grow(self, path: Path) -> None:
        history = History(path)
        for number in range(2 * WINDOWS_AT_ONCE + 1):
            history.add_window(window(number))
        first = history.next_part()
        assert first is not None and len(first.windows) == WINDOWS_AT_ONCE
        history.taken(first)
        second = history.next_part()
        assert second is not None and second.number > first.number
        assert told(history) == list(range(WINDOWS_AT_ONCE, 2 * WINDOWS_AT_ONCE + 1))
        assert History(path).next_part() is None

    def test_the_same_part_until_it_is_taken_whatever_comes_meanwhile(self, path: Path) -> None:
        history = History(path)
        history.add_window(window(1))
        part = history.next_part()
        history.add_window(window(2))
        assert history.next_part() == part
        assert History(path).next_part() == part  # the process ended before it heard the answer
        assert part is not None
        history.taken(part)
        assert told(history) == [2]

    def test_windows_that_made_room_meanwhile_take_no_newer_ones_with_them(self, path: Path) -> None:
        history = History(path, most_windows=3)
        for number in range(3):
            history.add_window(window(number))
        part = history.next_part()
        for number in range(3, 5):
            history.add_window(window(number))
        assert part is not None
        history.taken(part)
        assert told(history) == [3, 4]
