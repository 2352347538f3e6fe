"""Text from token bytes: what the tokenizer itself would decode, in pieces that never break a character."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from inference_node.engine.token_bytes import ByteDetokenizer, TokenBytes


def byte_level() -> Tokenizer:
    """256 bytes, one pair of them, a special token and one that is text with a space in it."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: number for number, symbol in enumerate([*alphabet, "Ġh"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[("Ġ", "h")]))
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<end>"])
    tokenizer.add_tokens([AddedToken("<to ol>"), AddedToken("<é>")])
    return tokenizer


TOKENIZER = byte_level()
SIZE = TOKENIZER.get_vocab_size()


def text_of(tokens: list[int]) -> str:
    table = TokenBytes.of(TOKENIZER)
    assert table is not None
    detokenizer = ByteDetokenizer(table)
    return "".join(detokenizer.push(token) for token in tokens) + detokenizer.flush()


class TestTokenBytes:
    @given(st.lists(st.integers(0, SIZE - 1), max_size=40))
    def test_any_tokens_read_as_the_tokenizer_reads_them(self, tokens: list[int]) -> None:
        assert text_of(tokens) == TOKENIZER.decode(tokens, skip_special_tokens=True)

    @given(st.text(max_size=20))
    def test_any_text_comes_back(self, text: str) -> None:
        tokenizer = byte_level()
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        assert text_of(tokenizer.encode(text).ids) == tokenizer.decode(tokenizer.encode(text).ids)

    def test_a_character_comes_with_its_last_byte(self) -> None:
        table = TokenBytes.of(TOKENIZER)
        assert table is not None
        detokenizer = ByteDetokenizer(table)
        smile = [TOKENIZER.token_to_id(symbol) for symbol in "ðŁĺĢ"]
        assert [detokenizer.push(token) for token in smile if token is not None] == ["", "", "", "😀"]

    @pytest.mark.parametrize("decoder", [decoders.Metaspace(), decoders.Sequence([decoders.ByteFallback()]), None])
    def test_other_kinds_of_text_are_left_to_the_tokenizer(self, decoder: decoders.Decoder | None) -> None:
        tokenizer = byte_level()
        if decoder is not None:
            tokenizer.decoder = decoder
        else:
            tokenizer = Tokenizer(models.BPE())
        assert TokenBytes.of(tokenizer) is None
