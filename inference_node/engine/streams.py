"""The asyncio end of one request: what the engine's thread hands over, one delta a step. No torch."""

import asyncio
from collections.abc import Callable
from typing import Self

from inference_node.engine.requests import TokenDelta


class TokenStream:
    """Deltas of one request, in order; iteration ends after the one that carries a finish_reason.

    Lives on one event loop. `cancel()` (or `aclose()`, or leaving `async with`) ends the request in the engine; the stream then
    still yields a last delta with finish_reason `cancelled` to whoever reads on.
    """

    def __init__(self, request_id: str, on_cancel: Callable[[str], None]) -> None:
        self.request_id = request_id
        self._on_cancel = on_cancel
        self._queue: asyncio.Queue[TokenDelta] = asyncio.Queue()
        self._finished = False

    def put(self, delta: TokenDelta) -> None:
        """Engine side, on the event loop's thread."""
        if delta.finish_reason is not None:
            self._finished = True
        self._queue.put_nowait(delta)

    @property
    def is_finished(self) -> bool:
        """Whether the last delta has arrived (it may not have been read yet)."""
        return self._finished

    def cancel(self) -> None:
        if not self._finished:
            self._on_cancel(self.request_id)

    async def aclose(self) -> None:
        self.cancel()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> TokenDelta:
        if self._finished and self._queue.empty():
            raise StopAsyncIteration
        return await self._queue.get()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
