"""One POST to an address that somebody typed: resolved once, every address checked, the checked address dialled.

Between the check and the connection nothing resolves again, so a name that changes its mind (DNS rebinding) gains nothing. No
redirect is followed, no proxy of the environment is asked, little of the answer is read, and all of it has one deadline.
"""

import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpcore2

from controlplane.errors import Invalid, Unavailable
from controlplane.webhooks.addresses import Network, plain, refusal

TIMEOUT_S = 15.0  # Standard Webhooks 1.0: between 15 and 30 s
MOST_READ_BYTES = 64 * 1024
PUBLIC_PORTS = frozenset({443, 8443})

Resolve = Callable[[str, int], Sequence[str]]


class Forbidden(Invalid):
    """The address leads where no webhook may go; nothing was dialled."""

    title = "Address not allowed"


class Unreachable(Unavailable):
    """No answer came; whether the request arrived is unknown."""

    title = "Receiver unreachable"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the receiver said. `body`: at most MOST_READ_BYTES of it."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Rules:
    """Where webhooks may go besides the open internet at https. `allowed`: own networks, also by plain http and at any port."""

    allowed: tuple[Network, ...] = ()
    timeout_s: float = TIMEOUT_S
    tls: ssl.SSLContext | None = None


def resolve(host: str, port: int) -> Sequence[str]:
    """Addresses of a name, by the system. Also reads what is no plain address but taken for one: `0x7f.1`, `2130706433`."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


@dataclass(slots=True)
class Dialler:
    """Sends webhooks. From any number of threads; a connection serves one request."""

    rules: Rules = field(default_factory=Rules)
    resolve: Resolve = resolve

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Raises Forbidden before anything is dialled, Unreachable when no whole answer came in time."""
        target = parse(url)
        sent = [
            (b"Host", target.authority.encode()),
            *((name.encode(), value.encode()) for name, value in headers.items()),
            (b"Content-Length", str(len(body)).encode()),
            (b"Accept-Encoding", b"identity"),
            (b"Connection", b"close"),
        ]
        backend = _CheckedBackend(self.rules, self.resolve, target, time.monotonic() + self.rules.timeout_s)
        limit_s = self.rules.timeout_s
        timeouts = {"connect": limit_s, "read": limit_s, "write": limit_s, "pool": limit_s}
        where = httpcore2.URL(
            scheme=target.scheme.encode(), host=target.host.encode(), port=target.port, target=target.path.encode()
        )
        try:
            with (
                httpcore2.ConnectionPool(
                    ssl_context=self.rules.tls, max_keepalive_connections=0, network_backend=backend
                ) as pool,
                pool.stream("POST", where, headers=sent, content=body, extensions={"timeout": timeouts}) as response,
            ):
                return Answer(response.status, _headers(response.headers), _some(response.iter_stream()))
        except (httpcore2.NetworkError, httpcore2.TimeoutException, httpcore2.ProtocolError) as error:
            words = str(error) or type(error).__name__
            raise Unreachable(f"{target.authority} did not answer: {words}") from None
        except OSError as error:
            raise Unreachable(f"{target.authority} did not answer: {error}") from None


@dataclass(frozen=True, slots=True)
class Target:
    """The parts of a URL. `authority` is host and, unless it is the scheme's own, port, as in the header Host."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == {"http": 80, "https": 443}[self.scheme] else f"{host}:{self.port}"


def parse(url: str) -> Target:
    """The URL's parts, the host as ASCII: one parser for the check and for the request alike.

    Raises Forbidden for what is no address of a web server, or holds what belongs into no address.
    """
    try:
        return _split(url)
    except ValueError as error:  # UnicodeError is one, too
        raise Forbidden(f"not an address for webhooks: {error}") from None


def _split(url: str) -> Target:
    if any(ord(letter) <= 32 or ord(letter) == 127 or letter == "\\" for letter in url):
        raise ValueError("spaces, control characters and backslashes have no place in it")
    scheme, colon, rest = url.partition("://")
    if not colon or scheme.lower() not in {"http", "https"}:
        raise ValueError("it must begin with https:// (or http:// inside an allowed network)")
    scheme = scheme.lower()
    ends = [position for mark in "/?#" if (position := rest.find(mark)) >= 0]
    cut = min(ends, default=len(rest))
    authority, path = rest[:cut], rest[cut:].partition("#")[0]
    if "@" in authority:
        raise ValueError("a user or password has no place in it: use a header or a signing secret")
    if authority.startswith("["):
        host, bracket, tail = authority[1:].partition("]")
        if not bracket or "%" in host:
            raise ValueError("the IPv6 address in it is not one")
        host = str(ipaddress.IPv6Address(host))
        port_text = tail[1:] if tail.startswith(":") else ""
        if tail and not tail.startswith(":"):
            raise ValueError("after the IPv6 address comes a port or nothing")
    else:
        host, _, port_text = authority.partition(":")
        host = host.encode("idna").decode().lower() if not host.isascii() else host.lower()
        if not host or not all(letter.isalnum() or letter in "-._" for letter in host):
            raise ValueError("its host is not a name or an address")
    if port_text and not (port_text.isascii() and port_text.isdigit() and 0 < int(port_text) < 65536):
        raise ValueError("its port is not a number from 1 to 65535")
    port = int(port_text) if port_text else {"http": 80, "https": 443}[scheme]
    if not path.startswith("/"):
        path = "/" + path
    if not path.isascii():
        raise ValueError("its path has letters that must be percent-encoded")
    return Target(scheme, host, port, path)


def check_typed(url: str, rules: Rules) -> None:
    """What can be said of an address when somebody types it, without asking the network. Raises Forbidden."""
    target = parse(url)
    try:
        ipaddress.ip_address(target.host)
    except ValueError:
        return  # a name: checked each time it is dialled
    checked(target, [target.host], rules)


def checked(target: Target, addresses: Sequence[str], rules: Rules) -> list[str]:
    """The addresses, each found fit. One that is not spoils all: a name that leads to both worlds is no mistake."""
    fit: list[str] = []
    inside = True
    for text in addresses:
        address = plain(ipaddress.ip_address(text.partition("%")[0]))
        why = refusal(address, rules.allowed)
        if why is not None:
            raise Forbidden(
                f"{target.host}: {why}; an admin can allow own networks with CONTROLPLANE_WEBHOOK_ALLOWED_NETWORKS"
            )
        inside = inside and any(address.version == net.version and address in net for net in rules.allowed)
        fit.append(str(address))
    if not fit:
        raise Forbidden(f"{target.host} has no address")
    if not inside and target.scheme != "https":
        raise Forbidden("use https://: plain http is for allowed networks only")
    if not inside and target.port not in PUBLIC_PORTS:
        ports = " and ".join(map(str, sorted(PUBLIC_PORTS)))
        raise Forbidden(f"port {target.port} is not allowed: outside of allowed networks it is {ports}")
    return fit


class _CheckedBackend(httpcore2.NetworkBackend):
    """Resolves once, checks, dials what it has checked. TLS still asks for the name."""

    def __init__(self, rules: Rules, resolve: Resolve, target: Target, deadline_s: float) -> None:
        self._rules, self._resolve, self._target, self._deadline_s = rules, resolve, target, deadline_s

    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:  # fmt: skip
        try:
            addresses = list(dict.fromkeys(self._resolve(host, port)))
        except (OSError, UnicodeError) as error:
            raise httpcore2.ConnectError(f"its name has no address: {error}") from None
        last: Exception | None = None
        for address in checked(self._target, addresses, self._rules)[:4]:
            try:
                stream = httpcore2.SyncBackend().connect_tcp(address, port, _left(self._deadline_s, timeout))
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                last = error
            else:
                return _Hurried(stream, self._deadline_s)
        raise last or httpcore2.ConnectError("no address answered")


class _Hurried(httpcore2.NetworkStream):
    """A stream all of whose waits end at one deadline: else an answer that drips would hold its worker for ever."""

    def __init__(self, stream: httpcore2.NetworkStream, deadline_s: float) -> None:
        self._stream, self._deadline_s = stream, deadline_s

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(self._deadline_s, timeout, httpcore2.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(self._deadline_s, timeout, httpcore2.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        stream = self._stream.start_tls(ssl_context, server_hostname, _left(self._deadline_s, timeout))
        return _Hurried(stream, self._deadline_s)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(deadline_s: float, timeout: float | None, error: type[Exception] = httpcore2.ConnectTimeout) -> float:
    """Seconds until the deadline, or the shorter limit. Raises when it has passed."""
    left_s = deadline_s - time.monotonic()
    if left_s <= 0:
        raise error("the answer took too long")
    return left_s if timeout is None else min(left_s, timeout)


def _headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in raw}


def _some(chunks: Iterable[bytes]) -> bytes:
    read = b""
    for chunk in chunks:
        read += chunk
        if len(read) >= MOST_READ_BYTES:
            break
    return read[:MOST_READ_BYTES]
