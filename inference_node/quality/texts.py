"""Text that quality is measured on: written for this purpose, five kinds, and disjoint from what pruning is calibrated on."""

import hashlib
from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import cache
from itertools import chain, zip_longest
from pathlib import Path

_FOLDER = Path(__file__).parent / "held_out"
# Tokens that one forward sees at once. Longer ones measure no other thing, and hold more logits: 50 MB at 49,152 tokens of
# vocabulary.
WINDOW_TOKENS = 256
# About what all texts give to a tokenizer of some ten thousand words; one of single bytes would give six times as many.
MOST_TOKENS = 3072
_LEAST_WINDOW = 16

Window = tuple[int, ...]


class Kind(StrEnum):
    """Quantization and pruning do not hurt all kinds alike."""

    PROSE = "prose"
    DIALOGUE = "dialogue"
    CODE = "code"
    NUMBERS = "numbers"
    CHAT = "chat"


@cache
def held_out(kind: Kind) -> str:
    """One text of some 300 to 500 words."""
    return (_FOLDER / f"{kind.value}.txt").read_text(encoding="utf-8")


def digest() -> str:
    """Changes with any of the texts."""
    return hashlib.sha256("\0".join(held_out(kind) for kind in Kind).encode()).hexdigest()[:16]


def windows(
    encode: Callable[[str], Sequence[int]], *, longest: int = WINDOW_TOKENS, most: int = MOST_TOKENS
) -> tuple[Window, ...]:
    """The texts as tokens in windows of at most `longest`, one kind after the other by turns, until `most` tokens are there."""
    by_kind = [_cut(tuple(encode(held_out(kind))), longest) for kind in Kind]
    turns = [window for window in chain.from_iterable(zip_longest(*by_kind)) if window is not None]
    taken: list[Window] = []
    room = most
    for window in turns:
        if len(window := window[:room]) < _LEAST_WINDOW:
            continue
        taken.append(window)
        room -= len(window)
    return tuple(taken)


def _cut(tokens: Window, longest: int) -> list[Window]:
    return [tokens[start : start + longest] for start in range(0, len(tokens), longest)]
