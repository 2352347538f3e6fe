"""What one connection may cost: time to send a request, size of its headers, time to take the answer, and how many there are.

uvicorn leaves these to a proxy in front; a node often has none. Cutting a connection ends its generation like any disconnect.
"""

import socket
from asyncio import TimerHandle, Transport
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from inference_node.server.problems import raw_problem

log = structlog.get_logger("server")

MAX_HEADER_BYTES = 64 * 1024
# How long a refused client may go on sending before the connection is torn down.
_LINGER_S = 1.0


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """client_timeout_s bounds each wait for the client: for a whole request to arrive, and for it to take what was sent."""

    client_timeout_s: float
    max_connections: int


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's connection with limits. A client that breaks one is told why, if it can still be told, and cut."""

    def __init__(self, limits: ConnectionLimits, *, count_cut: Callable[[str], None], **arguments: Any) -> None:
        super().__init__(**arguments)
        self._limits = limits
        self._count_cut = count_cut
        self._header_bytes: int | None = 0  # None between the end of a request's headers and the beginning of the next
        self._is_refused = False
        self._arriving: TimerHandle | None = None
        self._taking: TimerHandle | None = None
        self._closing: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override] # as in the base class
        super().connection_made(transport)
        self._give_up_on_dead_peers(transport)
        if len(self.connections) > self._limits.max_connections:
            self._refuse(
                429, f"this node serves {self._limits.max_connections} connections and has them; try again later"
            )
            return
        self._arriving = self._after(self._too_slow_to_ask)

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._arriving, self._taking, self._closing):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return  # what still comes is read, but for nothing
        if self._header_bytes is not None:
            self._header_bytes += len(data)
        super().data_received(data)
        if self._header_bytes is not None and self._header_bytes > MAX_HEADER_BYTES:
            self._refuse(431, f"the request's headers are larger than {MAX_HEADER_BYTES // 1024} KB")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._arriving is None:
            self._arriving = self._after(self._too_slow_to_ask)

    def on_headers_complete(self) -> None:
        self._header_bytes = None
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._header_bytes = 0
        if self._arriving is not None:
            self._arriving.cancel()
            self._arriving = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._taking = self._after(self._too_slow_to_take)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        # A close waits until everything is taken: not for ever.
        self._closing = self._after(self.transport.abort)

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "this is no HTTP/1.1 request")

    def _too_slow_to_ask(self) -> None:
        # A keep-alive connection between two requests is uvicorn's to close.
        self._refuse(408, f"no whole request arrived within {self._limits.client_timeout_s:g} s")

    def _too_slow_to_take(self) -> None:
        log.info("reader_cut", waited_s=self._limits.client_timeout_s)
        self._count_cut("slow_reader")
        self.transport.abort()

    def _refuse(self, status: int, text: str) -> None:
        """Says why where no answer has begun, and closes; what was asked before on this connection is cancelled with it."""
        if self._is_refused or self.transport.is_closing():
            return
        self._is_refused = True
        self._count_cut({429: "connections", 431: "headers", 408: "slow_request"}.get(status, "malformed"))
        cycle = self.cycle
        if not self.pipeline and (cycle is None or cycle.response_complete or not cycle.response_started):
            self.transport.write(raw_problem(status, text))
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True  # the application's own answer would come after ours
            cycle.message_event.set()
        # Closed while the client still sends, the kernel would answer with a reset, and our words were lost. So only our half is
        # closed, and the other when the client does the same, or soon after.
        self.transport.write_eof()
        self._closing = self.loop.call_later(min(_LINGER_S, self._limits.client_timeout_s), self.transport.abort)

    def _after(self, act: Callable[[], None]) -> TimerHandle:
        return self.loop.call_later(self._limits.client_timeout_s, act)

    def _give_up_on_dead_peers(self, transport: Transport) -> None:
        """The kernel cuts a peer that neither takes data nor answers: its own patience is a quarter of an hour."""
        sock = transport.get_extra_info("socket")
        if sock is None or not hasattr(socket, "TCP_USER_TIMEOUT"):
            return
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(1e3 * self._limits.client_timeout_s))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        except OSError:  # already gone
            return


def guarded(limits: ConnectionLimits, count_cut: Callable[[str], None]) -> Any:
    """What uvicorn's `http` setting takes. count_cut hears `slow_reader`, `slow_request`, `headers`, `connections`, `malformed`.

    The words are those of the metric's label, `metrics.CUT_CAUSES`.
    """
    return partial(GuardedProtocol, limits, count_cut=count_cut)
