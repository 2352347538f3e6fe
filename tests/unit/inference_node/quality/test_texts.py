"""Held-out text: there, cut as promised, and not what pruning is calibrated on."""

import re

from inference_node.pruning.text import TEXT
from inference_node.quality import texts
from inference_node.quality.texts import Kind, held_out, windows


def _bytes(text: str) -> list[int]:
    return list(text.encode())


class TestHeldOut:
    def test_every_kind_has_hundreds_of_words(self) -> None:
        for kind in Kind:
            assert len(held_out(kind).split()) > 250, kind

    def test_shares_no_run_of_words_with_the_calibration_text(self) -> None:
        seen = _runs(TEXT)

        for kind in Kind:
            assert not seen & _runs(held_out(kind)), kind


class TestWindows:
    def test_none_is_longer_than_asked_and_all_together_stay_within_most(self) -> None:
        found = windows(_bytes, longest=100, most=1234)

        assert max(map(len, found)) == 100
        assert 1234 - 16 < sum(map(len, found)) <= 1234

    def test_kinds_take_turns_so_that_a_short_budget_sees_them_all(self) -> None:
        found = windows(_bytes, longest=64, most=64 * len(Kind))

        assert [bytes(window).decode() for window in found] == [held_out(kind)[:64] for kind in Kind]

    def test_all_text_is_used_where_there_is_room(self) -> None:
        found = windows(_bytes, longest=10_000, most=1_000_000)

        assert [bytes(window).decode() for window in found] == [held_out(kind) for kind in Kind]


def test_digest_is_of_the_texts() -> None:
    assert re.fullmatch(r"[0-9a-f]{16}", texts.digest())
    assert texts.digest() == texts.digest()


def _runs(text: str, length: int = 6) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[start : start + length]) for start in range(len(words) - length + 1)}
