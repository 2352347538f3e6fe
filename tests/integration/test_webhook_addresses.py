"""Where webhooks may not go: every vector is dialled for real, and no socket may connect to anything meanwhile."""

import ipaddress
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from controlplane.webhooks.addresses import refusal
from controlplane.webhooks.dial import Dialler, Forbidden, Rules, Unreachable, check_typed
from tests.support.receiver import Received, Reply, receiver

PORT = "PORT"  # of a listener on loopback that must hear nothing
# Addresses as literals. What the system's resolver reads as an address (decimal, octal, hexadecimal, shortened) is among them.
LITERALS = (
    "127.0.0.1", "127.1", "127.0.1", "127.255.255.254", "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "017700000001",
    "127.0.0.0x1", "0", "0.0.0.0", "0x0", "localhost", "LOCALHOST", "localhost.", "ip6-localhost",
    "①②⑦.⓪.⓪.①", "127。0。0。1",
    "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.254", "192.168.0.1", "192.168.255.254", "0x0a000001", "167772161",
    "100.64.0.1", "100.127.255.254", "100.100.100.200", "169.254.169.254", "169.254.170.2", "169.254.0.1", "2852039166",
    "0xa9fea9fe", "0251.0376.0251.0376", "169.254.43518", "168.63.129.16", "192.0.0.192", "192.0.0.1", "192.0.2.1",
    "198.18.0.1", "198.19.255.254", "198.51.100.7", "203.0.113.9", "192.88.99.1", "224.0.0.1", "239.255.255.250",
    "240.0.0.1", "255.255.255.255",
    "[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::ffff:10.0.0.1]",
    "[::ffff:169.254.169.254]", "[::ffff:a9fe:a9fe]", "[::127.0.0.1]", "[::10.0.0.1]", "[::ffff:0:127.0.0.1]",
    "[64:ff9b::127.0.0.1]", "[64:ff9b::a9fe:a9fe]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]", "[2002:a9fe:a9fe::1]",
    "[2001:0:7f00:1::]", "[2001:db8::1]", "[fc00::1]", "[fd00::1]", "[fd00:ec2::254]", "[fd20:ce::254]", "[fe80::1]",
    "[fec0::1]", "[ff02::1]", "[ff0e::1]", "[100::1]", "[5f00::1]", "[3fff::1]",
)  # fmt: skip
MALFORMED = (
    "https://user@127.0.0.1/", "https://user:pw@example.com/", "https://example.com@127.0.0.1/", "http:/127.0.0.1/",
    "https:///nowhere", "file:///etc/passwd", "gopher://127.0.0.1:6379/_FLUSHALL", "ftp://127.0.0.1/", "dict://127.0.0.1:11211/",
    "//127.0.0.1/", "127.0.0.1", "https://[fe80::1%25lo]/", "https://[::1", "https://127.0.0.1:0/", "https://127.0.0.1:65536/",
    "https://127.0.0.1:8o/", "https://exa mple.com/", "https://example.com\\@127.0.0.1/", "https://example.com\r\nHost: x/",
    "https://127.0.0.1%00.example.com/", "https://%31%32%37.0.0.1/", "https://", "",
)  # fmt: skip


@contextmanager
def _no_connection() -> Iterator[list[object]]:
    """What sockets of this process tried to connect to; anything at all is too much (audit event `socket.connect`)."""
    tried: list[object] = []
    watching, thread = [True], threading.get_ident()

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        # The resolver's own questions to a name server are no sockets of Python's.
        if watching[0] and event == "socket.connect" and threading.get_ident() == thread:
            tried.append(arguments[1])

    sys.addaudithook(hook)  # cannot be taken off again, so it is told to look away
    try:
        yield tried
    finally:
        watching[0] = False


def _vectors(port: int) -> list[str]:
    ports = (f":{port}", "")
    return [
        f"{scheme}://{host}{end}/x" for host in LITERALS for scheme, end in zip(("http", "https"), ports, strict=True)
    ]


def test_no_vector_connects_anywhere() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, _no_connection() as tried:
        listener.settimeout(0.05)
        vectors = [*_vectors(listener.getsockname()[1]), *MALFORMED]
        dialler, passed = Dialler(Rules(timeout_s=5)), []
        for url in vectors:
            try:
                dialler.post(url, {}, b"{}")
                passed.append(url)
            except (Forbidden, Unreachable):  # the latter where a resolver here knows no such name
                pass
        with pytest.raises(TimeoutError):
            listener.accept()
    assert passed == []
    assert tried == []
    assert len(vectors) >= 80


@pytest.mark.parametrize("url", [f"https://{host}/" for host in LITERALS if host[0] == "[" or host.count(".") == 3])
def test_literal_addresses_are_refused_when_they_are_typed(url: str) -> None:
    host = url.removeprefix("https://").removesuffix("/").strip("[]")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return  # taken for a name until it is resolved
    with pytest.raises(Forbidden):
        check_typed(url, Rules())


class _Rebinding:
    """A name server whose answer changes from question to question."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked += 1
        return self.answers[min(self.asked, len(self.answers)) - 1]


def test_a_name_is_resolved_once_and_what_was_checked_is_dialled() -> None:
    rebinding = _Rebinding(["127.0.0.1"], ["169.254.169.254"])
    with receiver() as there:
        rules = Rules((ipaddress.ip_network("127.0.0.1/32"),), timeout_s=5)
        answer = Dialler(rules, rebinding).post(f"http://rebind.example:{there.port}/x", {}, b"{}")
        assert answer.status == 200
        assert there.received[0].headers["host"] == f"rebind.example:{there.port}"
    assert rebinding.asked == 1


def test_one_bad_address_among_good_ones_spoils_the_name() -> None:
    both = _Rebinding(["93.184.216.34", "127.0.0.1"])
    with _no_connection() as tried, pytest.raises(Forbidden):
        Dialler(Rules(timeout_s=5), both).post("https://both.example/x", {}, b"{}")
    assert tried == []


@pytest.mark.parametrize(
    "url", ["http://public.example/x", "https://public.example:22/x", "https://public.example:6379/"]
)
def test_outside_only_https_at_its_ports(url: str) -> None:
    public = _Rebinding(["93.184.216.34"])
    with _no_connection() as tried, pytest.raises(Forbidden):
        Dialler(Rules(timeout_s=5), public).post(url, {}, b"{}")
    assert tried == []


def test_the_metadata_service_is_refused_even_in_an_allowed_network() -> None:
    everything = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))
    assert refusal(ipaddress.ip_address("169.254.169.254"), everything) is not None
    assert refusal(ipaddress.ip_address("::ffff:169.254.169.254"), everything) is not None
    assert refusal(ipaddress.ip_address("10.1.2.3"), everything) is None


@pytest.mark.parametrize("address", ["93.184.216.34", "1.1.1.1", "2606:4700:4700::1111", "2a00:1450:4001:81b::200e"])
def test_the_open_internet_is_allowed(address: str) -> None:
    assert refusal(ipaddress.ip_address(address), ()) is None


def test_an_answer_that_drips_ends_at_the_deadline() -> None:
    go_on = threading.Event()

    def drip(_: Received) -> Reply:
        go_on.wait(60)
        return Reply()

    with receiver() as there:
        there.reply = drip
        began = time.monotonic()
        with pytest.raises(Unreachable):
            Dialler(Rules((ipaddress.ip_network("127.0.0.0/8"),), timeout_s=0.5)).post(there.url, {}, b"{}")
        go_on.set()
        assert time.monotonic() - began < 50
