"""Ports of a local fleet: all derived from one, and all checked before anything starts."""

import errno
import socket
from dataclasses import dataclass

import psutil

from inference_node.bench import ports
from inference_node.bench.process import HOST as HOST
from trimtab.errors import UsageError

DEFAULT_PORT = 8700


@dataclass(frozen=True, slots=True)
class Ports:
    """[API, node 1 .. node N, Prometheus, Redis], one after the other, so that fleets side by side need one number each."""

    api: int
    nodes: tuple[int, ...]
    prometheus: int
    redis: int


def plan(first: int, nodes: int) -> Ports:
    """Raises UsageError when they do not fit below 65536."""
    last = first + nodes + 2
    if first < 1 or last > 65535:
        raise UsageError(
            f"--port {first} with {nodes} nodes needs the ports {first} to {last}, but ports go from 1 to 65535"
        )
    return Ports(first, tuple(range(first + 1, first + 1 + nodes)), first + nodes + 1, last)


def require_free(uses: dict[int, str], *, option: str = "--port") -> None:
    """uses: port to the name of the component that wants it. Raises UsageError that names the first taken one."""
    for port, component in sorted(uses.items()):
        if is_free(port):
            continue
        holder = holder_of(port)
        by = f" by {holder}" if holder else ""
        span = f"{min(uses)} to {max(uses)}"
        raise UsageError(
            f"port {port}, meant for {component}, is taken{by}. Stop that process, or choose another first port with "
            f"{option} (needed here: {span})"
        )


def require_listenable(host: str, port: int) -> None:
    """Raises UsageError unless a server may listen there: to be asked before it starts, for an error that people can read."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            holder = holder_of(port) if error.errno == errno.EADDRINUSE else None
            by = f" by {holder}" if holder else ""
            raise UsageError(
                f"cannot listen on {host}:{port} ({error.strerror}{by}): stop that process, or choose another with "
                "CONTROLPLANE_PORT"
            ) from None


def is_free(port: int) -> bool:
    """Whether we could listen there now. Raises UsageError when we may not at all (ports below 1024)."""
    try:
        return ports.is_free(port)
    except PermissionError:
        raise UsageError(f"this user may not listen on port {port}: choose one above 1023 with --port") from None


def holder_of(port: int) -> str | None:
    """`name (pid 123)` of who listens there, as far as this user may know."""
    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.Error:
        return None
    for connection in connections:
        if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr[1] == port:
            if connection.pid is None:
                return None
            try:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
            except psutil.Error:
                return f"pid {connection.pid}"
    return None
