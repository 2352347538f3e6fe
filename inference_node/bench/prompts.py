"""Prompts for measurements: as words for servers whose vocabulary is not known, as token ids where the model is at hand."""

import random
from pathlib import Path

from inference_node.errors import Invalid

Prompt = str | tuple[int, ...]

# Short, common English words: about one token each in most vocabularies, and no two prompts share a prefix by chance.
_TEXT = """
time year people way day man thing woman life child world school state family student group country problem
hand part place case week company system program question work government number night point home water room
mother area money story fact month lot right study book eye job word business issue side kind head house
service friend father power
"""
_WORDS = _TEXT.split()


def make_prompts(count: int, words: int, shared_words: int, seed: str) -> list[str]:
    """`count` prompts of `words` words, the first `shared_words` the same in all. The same seed gives the same prompts."""
    source = random.Random(seed)
    shared = source.choices(_WORDS, k=shared_words)
    return [" ".join(shared + source.choices(_WORDS, k=max(1, words - shared_words))) for _ in range(count)]


class TokenPrompts:
    """Prompts of exactly so many tokens of one model: every server under test gets the very same ids."""

    def __init__(self, model: Path) -> None:
        """model: folder in Hugging Face format. Raises Invalid when its tokenizer cannot be read."""
        # It comes with the extra `node`, which measuring somebody else's server does not need.
        from tokenizers import Tokenizer  # noqa: PLC0415

        file = model / "tokenizer.json"
        try:
            self._tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # noqa: BLE001 - the library's Rust part raises bare Exception
            raise Invalid(f"{file} cannot be read: {error}. Name a model folder in Hugging Face format.") from None

    def make(self, count: int, tokens: int, shared_tokens: int, seed: str) -> list[Prompt]:
        """`count` prompts of `tokens` ids, the first `shared_tokens` the same in all and, nearly surely, no more."""
        source = random.Random(seed)
        shared = self._draw(source, shared_tokens)
        return [shared + self._draw(source, tokens - shared_tokens) for _ in range(count)]

    def _draw(self, source: random.Random, tokens: int) -> tuple[int, ...]:
        ids: list[int] = []
        while len(ids) < tokens:  # a word is at least one token
            text = " " + " ".join(source.choices(_WORDS, k=tokens - len(ids)))
            ids += self._tokenizer.encode(text, add_special_tokens=False).ids
        return tuple(ids[:tokens])
