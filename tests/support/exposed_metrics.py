"""The names of all series that we expose, as Prometheus stores them: what rules and dashboards may read."""

import re

from prometheus_client import CollectorRegistry, generate_latest

from controlplane.clock import SystemClock
from controlplane.metrics import SqlCollector
from controlplane.settings import ControlPlaneSettings
from inference_node.contract.metrics import ALL, MetricKind
from tests.support.database import memory_database


def exposed() -> set[str]:
    """Of a node and of the control plane."""
    suffixes = ("_bucket", "_sum", "_count")
    nodes = {
        f"{spec.name}{suffix}" for spec in ALL for suffix in (suffixes if spec.kind is MetricKind.HISTOGRAM else ("",))
    }
    with memory_database() as engine:
        registry = CollectorRegistry()
        registry.register(SqlCollector(engine, ControlPlaneSettings(), SystemClock(), version="0"))
        text = generate_latest(registry).decode()
    return nodes | set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
