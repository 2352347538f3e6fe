"""Text as it comes: whole characters, spaces, and stop strings that may begin anywhere."""

from collections.abc import Sequence

import pytest

from inference_node.engine.detokenizer import Detokenizer, StopStrings


class Bytes:
    """A token is a byte, 256 is special: the smallest decoder in which characters come in parts."""

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        return bytes(i for i in ids if i < 256).decode("utf-8", errors="replace")


def pieces(text: bytes, prompt: bytes = b"") -> list[str]:
    detokenizer = Detokenizer(Bytes(), list(prompt))
    return [detokenizer.push(byte) for byte in text] + [detokenizer.flush()]


class TestDetokenizer:
    def test_a_character_comes_with_its_last_byte(self) -> None:
        assert pieces("aé😀b".encode()) == ["a", "", "é", "", "", "", "😀", "b", ""]

    def test_the_prompt_is_not_repeated(self) -> None:
        assert "".join(pieces(b" world", prompt=b"hello")) == " world"

    def test_a_character_that_never_ends_is_shown_broken_at_the_end(self) -> None:
        assert "".join(pieces(b"a" + "😀".encode()[:2])) == "a\ufffd"

    def test_noise_does_not_wait_for_ever(self) -> None:
        assert "".join(pieces(b"\x80" * 20)[:-1])

    def test_special_tokens_give_no_text(self) -> None:
        detokenizer = Detokenizer(Bytes(), [65])
        assert detokenizer.push(256) == "" and detokenizer.push(66) == "B"


def stopped(stops: tuple[str, ...], *texts: str) -> tuple[str, str | None]:
    checker, shown = StopStrings(stops), ""
    for text in texts:
        released = checker.push(text)
        shown += released.text
        if released.stop is not None:
            return shown, released.stop
    return shown + checker.flush(), None


class TestStopStrings:
    @pytest.mark.parametrize(
        ("texts", "expected"),
        [
            (("one END two",), ("one ", "END")),
            (("one E", "ND two"), ("one ", "END")),
            (("one E", "N", "D"), ("one ", "END")),
            (("one E", "Nough"), ("one ENough", None)),
            (("one EN",), ("one EN", None)),
            (("EEND",), ("E", "END")),
        ],
    )
    def test_is_found_across_pieces_and_never_shown(
        self, texts: tuple[str, ...], expected: tuple[str, str | None]
    ) -> None:
        assert stopped(("END",), *texts) == expected

    def test_the_earliest_of_several_wins(self) -> None:
        assert stopped(("zz", "b"), "a", "b", "zz") == ("a", "b")

    def test_holds_back_no_more_than_may_begin_a_stop_string(self) -> None:
        checker = StopStrings(("\n\n",))
        assert checker.push("line\n").text == "line"
        assert checker.push("next").text == "\nnext"
