"""Ports for servers that a benchmark starts: chosen before the server that is told of them runs."""

import errno
import itertools
import random
import socket
from pathlib import Path

from inference_node.bench.process import HOST

LOWEST = 15_000
# `ip_local_port_range`: from there on the kernel gives ports to clients, so one could go between our look and the server's.
KERNELS_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
USUAL_START_OF_KERNELS = 32_768


def free_port() -> int:
    """One that nobody listens on now and that no client is given. Raises OSError when there is none."""
    stop = max(LOWEST + 1, clients_start())
    first = random.randrange(LOWEST, stop)
    for port in itertools.chain(range(first, stop), range(LOWEST, first)):
        if is_free(port):
            return port
    raise OSError(f"no port from {LOWEST} to {stop - 1} is free on {HOST}")


def clients_start() -> int:
    """The lowest port that the kernel gives to clients; all below it are left to servers."""
    try:
        low, _high = KERNELS_RANGE.read_text(encoding="ascii").split()
        return int(low)
    except (OSError, ValueError):
        return USUAL_START_OF_KERNELS


def is_free(port: int) -> bool:
    """Whether a server could listen there now. Raises PermissionError where this user may not at all (ports below 1024)."""
    with socket.socket() as probe:
        # As servers do: an address in TIME_WAIT is free, one that somebody listens on is not.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            if error.errno == errno.EACCES:
                raise
            return False
    return True
