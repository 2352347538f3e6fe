"""Lost, doubled and missing tokens are told apart."""

from typing import Any

import pytest

from inference_node.bench.truth import StreamTruth
from inference_node.bench.wire import Recording
from tests.support.answers import events, plain, recording, token, usage


def truth(numbers: list[int], *, asked: int = 3, finish: str | None = "length", total: int = 3) -> StreamTruth:
    chunks: list[dict[str, Any]] = [token(number) for number in numbers]
    chunks[-1]["choices"][0]["finish_reason"] = finish
    return StreamTruth.of(recording(plain(events([*chunks, usage(total)]))), asked)


class TestStreamTruth:
    def test_a_whole_answer(self) -> None:
        whole = truth([1, 2, 3])
        assert not (whole.failed or whole.truncated or whole.disordered)
        assert (whole.duplicated, whole.lost) == (0, 0)

    @pytest.mark.parametrize(
        ("numbers", "duplicated", "lost", "truncated"),
        [
            ([1, 2, 2, 3], 1, 0, False),
            ([1, 3], 0, 1, False),
            ([1, 1, 3], 1, 1, False),  # as many as asked for, and still wrong
            ([1, 2], 0, 0, True),
            ([1, 2, 3, 4], 1, 0, False),
        ],
    )
    def test_what_is_wrong_is_counted(self, numbers: list[int], duplicated: int, lost: int, truncated: bool) -> None:
        seen = truth(numbers)
        assert (seen.duplicated, seen.lost, seen.truncated) == (duplicated, lost, truncated)

    def test_an_answer_that_ends_for_another_reason_is_truncated(self) -> None:
        assert truth([1, 2, 3], finish="stop").truncated

    def test_the_servers_own_count_must_agree(self) -> None:
        assert truth([1, 2, 3], total=2).truncated

    def test_order_counts(self) -> None:
        assert truth([2, 1, 3]).disordered

    def test_a_stream_that_breaks_off_has_failed(self) -> None:
        broken = truth([1, 2], finish=None)
        assert broken.failed and not broken.truncated

    def test_an_error_event_has_failed(self) -> None:
        raw = plain(events([token(1), {"error": {"message": "cut"}}]))
        assert StreamTruth.of(recording(raw), 3).error == "cut"

    def test_a_lost_connection_has_failed(self) -> None:
        assert StreamTruth.of(Recording(0.0, failure="reset"), 3).failed
