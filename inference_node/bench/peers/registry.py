"""All adapters by name, and how a person names one with its environment: `openvino=/path/to/venv`."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

from inference_node.bench.peers.openvino import OPENVINO, OPENVINO_DYNAMIC
from inference_node.bench.peers.peer import Peer, python_of
from inference_node.bench.peers.transformers_cb import TransformersCb
from inference_node.bench.peers.vllm_cpu import VllmCpu
from inference_node.errors import Invalid

PEERS: Mapping[str, Peer] = {peer.name: peer for peer in (OPENVINO, OPENVINO_DYNAMIC, VllmCpu(), TransformersCb())}

_VERSION = "import importlib.metadata as m, json, sys; print(json.dumps(m.version(sys.argv[1])))"


def parse_peer(text: str) -> tuple[Peer, Path]:
    """(adapter, environment) of `NAME=VENV`. Raises Invalid."""
    name, separator, venv = text.partition("=")
    if not separator or not venv:
        raise Invalid(f"{text!r}: write a peer as NAME=VENV, say openvino=/path/to/venv")
    if name not in PEERS:
        raise Invalid(f"there is no adapter for {name!r}; there is one for {', '.join(PEERS)}")
    python_of(Path(venv))
    return PEERS[name], Path(venv)


def version_of(peer: Peer, venv: Path) -> str | None:
    """Of its package in that environment; None when it is not installed there."""
    answer = subprocess.run(
        [python_of(venv), "-c", _VERSION, peer.package], capture_output=True, text=True, timeout=60, check=False
    )
    return str(json.loads(answer.stdout)) if answer.returncode == 0 else None
