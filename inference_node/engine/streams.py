"""The asyncio end of one request: what the engine's thread hands over, one delta a step. No torch."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Self

from inference_node.engine.requests import TokenDelta


class TokenStream:
    """Deltas of one request, in order; iteration ends after the one that carries a finish_reason.

    Lives on one event loop. `cancel()` (or `aclose()`, or leaving `async with`) ends the request in the engine; the stream then
    still yields a last delta with finish_reason `cancelled` to whoever reads on. Read it by iteration, or with `take` whenever
    `on_delta` is called, but not both ways.

    The engine never waits for a reader. With `max_unread` set, a reader that leaves so many deltas unread loses the rest: the
    request is cancelled, and its last delta says so in `error`.
    """

    def __init__(self, request_id: str, on_cancel: Callable[[str], None]) -> None:
        self.request_id = request_id
        self.max_unread: int | None = None
        self.on_delta: Callable[[], None] | None = None
        self._on_cancel = on_cancel
        self._unread: deque[TokenDelta] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._finished = False
        self._overflown = False

    def put(self, delta: TokenDelta) -> None:
        """Engine side, on the event loop's thread."""
        if delta.finish_reason is not None:
            self._finished = True
            if self._overflown:
                delta = delta._replace(error=f"its reader left {self.max_unread} tokens unread")
        elif self._overflown:
            return
        elif self.max_unread is not None and len(self._unread) >= self.max_unread:
            self._overflown = True
            self.cancel()
            return
        self._unread.append(delta)
        if self.on_delta is not None:
            self.on_delta()
        elif self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    @property
    def is_finished(self) -> bool:
        """Whether the last delta has arrived (it may not have been read yet)."""
        return self._finished

    def take(self) -> list[TokenDelta]:
        """All that came since the last call, perhaps nothing. Does not wait."""
        unread = list(self._unread)
        self._unread.clear()
        return unread

    def cancel(self) -> None:
        if not self._finished:
            self._on_cancel(self.request_id)

    async def aclose(self) -> None:
        self.cancel()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> TokenDelta:
        while not self._unread:
            if self._finished:
                raise StopAsyncIteration
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        return self._unread.popleft()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
