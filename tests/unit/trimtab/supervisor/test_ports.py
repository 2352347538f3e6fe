"""Ports follow from one number, and a taken one is named with the way out."""

import os
import socket
from collections.abc import Iterator

import pytest

from tests.support.ports import free_port
from trimtab.errors import UsageError
from trimtab.supervisor import ports


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind((ports.HOST, 0))
        listener.listen()
        yield listener.getsockname()[1]


class TestPlan:
    def test_follows_from_the_first_port(self) -> None:
        assert ports.plan(8700, 2) == ports.Ports(8700, (8701, 8702), 8703, 8704)

    def test_leaves_room_for_more_nodes(self) -> None:
        planned = ports.plan(9000, 5)
        everything = (planned.api, *planned.nodes, planned.prometheus, planned.redis)
        assert everything == tuple(range(9000, 9008))

    def test_refuses_ports_that_do_not_exist(self) -> None:
        with pytest.raises(UsageError, match=r"65530 with 4 nodes needs the ports 65530 to 65536"):
            ports.plan(65530, 4)


class TestRequireFree:
    def test_passes_when_all_are_free(self, taken: int) -> None:
        ports.require_free({free_port(): "the API"})

    def test_names_the_port_its_use_its_holder_and_the_option(self, taken: int) -> None:
        with pytest.raises(UsageError) as caught:
            ports.require_free({taken: "node-1"})
        text = str(caught.value)
        assert f"port {taken}, meant for node-1, is taken" in text
        assert f"pid {os.getpid()}" in text
        assert "--port" in text

    def test_a_listening_port_is_not_listenable(self, taken: int) -> None:
        with pytest.raises(UsageError, match=rf"127.0.0.1:{taken} .*CONTROLPLANE_PORT"):
            ports.require_listenable("127.0.0.1", taken)
