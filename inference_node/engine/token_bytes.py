"""The bytes behind each token of a byte-level vocabulary: text can then grow token by token, with nothing decoded twice."""

import codecs
from typing import Any, Protocol

from tokenizers import decoders


class Vocabulary(Protocol):
    """The part of a tokenizers.Tokenizer that is needed here."""

    def id_to_token(self, token: int) -> str | None: ...


def _alphabet() -> dict[str, int]:
    """Character to byte, as GPT-2 writes bytes in its vocabulary (`bytes_to_unicode`, openai/gpt-2, encoder.py, 2019)."""
    shown = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(256 + place): byte for place, byte in enumerate(hidden)}


_BYTE_OF = _alphabet()


class TokenBytes:
    """Looked up as they are met, then kept. Special tokens have none. Belongs to the one thread that detokenizes."""

    def __init__(self, vocabulary: Vocabulary, special: frozenset[int]) -> None:
        self._vocabulary = vocabulary
        self._special = special
        self._known: dict[int, bytes] = {}

    @classmethod
    def of(cls, tokenizer: Any) -> "TokenBytes | None":
        """None when this tokenizer's text is more than its tokens' bytes in a row (sentencepiece and its kin)."""
        if not isinstance(getattr(tokenizer, "decoder", None), decoders.ByteLevel):
            return None
        added = tokenizer.get_added_tokens_decoder()
        return cls(tokenizer, frozenset(token for token, entry in added.items() if entry.special))

    def __getitem__(self, token: int) -> bytes:
        known = self._known.get(token)
        if known is None:
            known = self._known[token] = self._look_up(token)
        return known

    def _look_up(self, token: int) -> bytes:
        written = None if token in self._special else self._vocabulary.id_to_token(token)
        if written is None:
            return b""
        try:
            return bytes([_BYTE_OF[character] for character in written])
        except KeyError:  # an added token, written as it reads
            return written.encode()


class ByteDetokenizer:
    """Text of one answer, token by token; `push` and `flush` as `Detokenizer` has them."""

    def __init__(self, table: TokenBytes) -> None:
        self._table = table
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode

    def push(self, token: int) -> str:
        return self._decode(self._table[token])

    def flush(self) -> str:
        return self._decode(b"", True)
