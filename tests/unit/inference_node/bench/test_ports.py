"""Ports that are chosen before the server that will listen there runs."""

import socket
from pathlib import Path

import pytest

from inference_node.bench import ports
from inference_node.bench.process import HOST
from tests.support.ports import free_ports


def test_no_client_is_given_one_that_is_chosen() -> None:
    with socket.socket() as server, socket.socket() as client:
        server.bind((HOST, 0))
        server.listen()
        client.connect(server.getsockname())
        assert client.getsockname()[1] >= ports.clients_start()
    assert all(ports.LOWEST <= ports.free_port() < ports.clients_start() for _ in range(50))


def test_one_that_is_listened_on_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = free_ports(2)
    monkeypatch.setattr(ports, "LOWEST", taken)
    monkeypatch.setattr(ports, "clients_start", lambda: taken + 2)
    with socket.socket() as server:
        server.bind((HOST, taken))
        server.listen()
        assert {ports.free_port() for _ in range(20)} == {taken + 1}
        with socket.socket() as second:
            second.bind((HOST, taken + 1))
            second.listen()
            with pytest.raises(OSError, match=f"no port from {taken} to {taken + 1} is free"):
                ports.free_port()


@pytest.mark.parametrize("content", ["", "low high", None])
def test_a_system_that_does_not_say_where_clients_start_has_the_usual_range(
    content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "ip_local_port_range"
    if content is not None:
        told.write_text(content, encoding="ascii")
    monkeypatch.setattr(ports, "KERNELS_RANGE", told)
    assert ports.clients_start() == ports.USUAL_START_OF_KERNELS


def test_servers_under_test_never_get_the_same_one_twice() -> None:
    first, second = free_ports(3), free_ports(2)
    assert not set(range(first, first + 3)) & set(range(second, second + 2))
