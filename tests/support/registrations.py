"""What a node says, ready made: a registration and a heartbeat, with whatever a test wants different."""

from typing import Any

from controlplane.fleets.models import Node
from inference_node.contract.messages import Heartbeat, NodeCapabilities, NodeHardware, NodeRegistration, NodeState
from inference_node.contract.settings import EngineSettings, Precision

CAPABILITIES = NodeCapabilities(
    precisions=(Precision.BF16, Precision.INT8),
    max_batch_size=64,
    max_batched_tokens=2048,
    max_model_len=2048,
    kv_tokens=16_384,
)
HARDWARE = NodeHardware(device="cpu", cpu_model="test", cpu_cores=2, threads=1, memory_bytes=2**32)


def registration(name: str = "node-1", **changes: Any) -> NodeRegistration:
    """A node of pool `main` in fleet `default` with the default settings, that never saw a generation."""
    fields: dict[str, Any] = {
        "name": name,
        "pool": "main",
        "model": "tiny",
        "url": "http://127.0.0.1:9999",
        "admin_token": f"admin-token-of-{name}",
        "instance_id": f"{name}-first-life",
        "version": "0.1.0",
        "capabilities": CAPABILITIES,
        "hardware": HARDWARE,
        "settings": EngineSettings(),
        "observed_generation": 0,
    }
    return NodeRegistration(**(fields | changes))


def heartbeat_of(node: Node, **changes: Any) -> Heartbeat:
    """A heartbeat of a ready node that is as SQL has it."""
    settings = changes.pop("settings", EngineSettings.model_validate(node.observed_settings))
    fields: dict[str, Any] = {
        "instance_id": node.instance_id,
        "state": NodeState.READY,
        "observed_generation": node.observed_generation,
        "observed_epoch": node.observed_epoch,
        "config_hash": settings.content_hash(),
        "settings": settings,
    }
    return Heartbeat(**(fields | changes))
