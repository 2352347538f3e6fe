"""One request's deltas on the event loop, read fast, slowly, or not at all."""

import asyncio

from inference_node.engine.requests import FinishReason, TokenDelta
from inference_node.engine.streams import TokenStream


def delta(number: int, reason: FinishReason | None = None) -> TokenDelta:
    return TokenDelta("r", (number,), str(number), 4, 0, number, "bf16", number, finish_reason=reason)


class TestTokenStream:
    async def test_gives_all_in_order_and_ends(self) -> None:
        stream = TokenStream("r", lambda _: None)
        reading = asyncio.create_task(_read(stream))
        await asyncio.sleep(0)  # the reader waits before anything has come
        stream.put(delta(1))
        await asyncio.sleep(0)
        stream.put(delta(2))
        stream.put(delta(3, FinishReason.LENGTH))
        assert [d.text for d in await reading] == ["1", "2", "3"]

    async def test_take_brings_all_at_once(self) -> None:
        stream, calls = TokenStream("r", lambda _: None), []
        stream.on_delta = lambda: calls.append(1)
        stream.put(delta(1))
        stream.put(delta(2))
        assert [d.text for d in stream.take()] == ["1", "2"] and stream.take() == [] and len(calls) == 2

    async def test_without_a_limit_nothing_is_lost(self) -> None:
        stream = TokenStream("r", lambda _: None)
        for number in range(5000):
            stream.put(delta(number))
        assert len(stream.take()) == 5000

    async def test_a_reader_that_leaves_too_much_unread_is_cut_and_told(self) -> None:
        cancelled: list[str] = []
        stream = TokenStream("r", cancelled.append)
        stream.max_unread = 3
        for number in range(6):
            stream.put(delta(number))
        assert cancelled == ["r"]
        stream.put(delta(6, FinishReason.CANCELLED))
        deltas = await _read(stream)
        assert [d.text for d in deltas[:-1]] == ["0", "1", "2"]
        assert deltas[-1].finish_reason is FinishReason.CANCELLED and "3 tokens unread" in str(deltas[-1].error)


async def _read(stream: TokenStream) -> list[TokenDelta]:
    return [delta async for delta in stream]
