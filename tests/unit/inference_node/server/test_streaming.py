"""Chunks of a streamed answer."""

import json
from typing import Any

from inference_node.engine.requests import TokenDelta
from inference_node.server.streaming import Chunks


def delta(number: int, text: str) -> TokenDelta:
    return TokenDelta(
        "r", (7,), text, num_prompt_tokens=4, num_cached_tokens=0, num_generated_tokens=number, numerics="n", step=1
    )


def choice(index: int, delta: TokenDelta, characters: int) -> dict[str, Any]:
    return {"index": index, "text": delta.text}


class TestRunningUsage:
    def test_a_token_that_shows_no_text_is_numbered_too(self) -> None:
        numbered = Chunks({"id": "x"}, choice, 1, with_usage=True, running_usage=True)
        documents = [json.loads(numbered.of(0, delta(n, text))[6:]) for n, text in ((1, ""), (2, "é"))]
        assert [document["usage"]["completion_tokens"] for document in documents] == [1, 2]
        assert [document["choices"][0]["text"] for document in documents] == ["", "é"]

    def test_without_it_there_is_nothing_to_send(self) -> None:
        plain = Chunks({"id": "x"}, choice, 1, with_usage=True)
        assert plain.of(0, delta(1, "")) == b""
        assert json.loads(plain.of(0, delta(2, "é"))[6:])["usage"] is None
