"""Token ids to text as they come: whole characters only, and nothing that may yet turn out to be a stop string."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

# Prompt tokens decoded along with the first ones, since some tokenizers drop a leading space without a neighbour.
_CONTEXT = 5
_REPLACEMENT = "\ufffd"
# A character has at most 4 bytes, hence at most 4 byte-sized tokens; after this many it is no character but noise.
_LONGEST_PENDING = 8


class TextDecoder(Protocol):
    """The part of a tokenizers.Tokenizer that is needed here."""

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str: ...


class Detokenizer:
    """Text of one answer, token by token. The pieces it returns, put together, are the decoding of all tokens.

    Method: two windows that overlap, as in Hugging Face's text-generation-inference (`decode_token`, 2023): what the longer
    decodes to beyond the shorter is new, unless it ends within a character.
    """

    def __init__(self, decoder: TextDecoder, prompt: Sequence[int]) -> None:
        self._decoder = decoder
        self._ids = list(prompt[-_CONTEXT:])
        self._window = 0
        self._read = len(self._ids)

    def push(self, token: int) -> str:
        """The text that this token completes; empty while a character lacks bytes, and for special tokens."""
        self._ids.append(token)
        before, after = self._texts()
        pending = len(self._ids) - self._read
        if len(after) <= len(before) or (after.endswith(_REPLACEMENT) and pending < _LONGEST_PENDING):
            return ""
        return self._advance(before, after)

    def flush(self) -> str:
        """What is left at the end, broken characters shown as U+FFFD."""
        before, after = self._texts()
        return self._advance(before, after) if len(after) > len(before) else ""

    def _texts(self) -> tuple[str, str]:
        shorter = self._decoder.decode(self._ids[self._window : self._read], skip_special_tokens=True)
        longer = self._decoder.decode(self._ids[self._window :], skip_special_tokens=True)
        return shorter, longer

    def _advance(self, before: str, after: str) -> str:
        self._window, self._read = self._read, len(self._ids)
        # The ids before the window are never looked at again.
        del self._ids[: self._window]
        self._read -= self._window
        self._window = 0
        return after[len(before) :]


class Released(NamedTuple):
    """Text that may be shown, and the stop string found, before which the text ends."""

    text: str
    stop: str | None = None


class StopStrings:
    """Holds back the end of the text while it may begin a stop string."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""

    def push(self, text: str) -> Released:
        if not self._stops:
            return Released(text)
        text = self._held + text
        found = [(place, stop) for stop in self._stops if (place := text.find(stop)) >= 0]
        if found:
            place, stop = min(found, key=lambda pair: (pair[0], -len(pair[1])))
            self._held = ""
            return Released(text[:place], stop)
        keep = self._longest_beginning(text)
        self._held = text[len(text) - keep :]
        return Released(text[: len(text) - keep])

    def flush(self) -> str:
        """The text that was held back for a stop string that never came."""
        held, self._held = self._held, ""
        return held

    def _longest_beginning(self, text: str) -> int:
        """Length of the longest end of `text` with which a stop string begins."""
        longest = min(len(text), max(len(stop) for stop in self._stops) - 1)
        for length in range(longest, 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stops):
                return length
        return 0
