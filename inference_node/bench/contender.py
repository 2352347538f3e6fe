"""Who takes part in a comparison: our node in some precision and pruning, or a peer in a precision."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from inference_node.bench.peers.peer import Peer, Setting
from inference_node.bench.peers.registry import version_of
from inference_node.bench.ports import free_port
from inference_node.bench.process import Launch
from inference_node.contract.settings import EngineSettings, Precision
from inference_node.errors import Invalid

OURS = "trimtab"


@dataclass(frozen=True, slots=True)
class Contender:
    """One server of a comparison. `engine` is OURS or a peer's name."""

    engine: str
    version: str | None
    precision: Precision
    pruning: float
    launch: Launch

    @property
    def name(self) -> str:
        return f"{self.engine} {self.precision}{f' pruned {self.pruning:g}' if self.pruning else ''}"

    @property
    def is_ours(self) -> bool:
        return self.engine == OURS

    def described(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "engine": self.engine,
            "version": self.version,
            "precision": self.precision.value,
            "pruning_threshold": self.pruning,
            "command": list(self.launch.command),
            "environment": dict(self.launch.environment),
        }


def parse_numerics(text: str) -> tuple[Precision, float]:
    """`bf16`, or `int8@0.4` for int8 pruned by 0.4. Raises Invalid."""
    word, separator, share = text.strip().partition("@")
    try:
        precision, pruning = Precision(word), float(share) if separator else 0.0
        EngineSettings(precision=precision, pruning_threshold=pruning)
    except ValueError:
        raise Invalid(f"{text!r} is no precision; write bf16, int8, or int8@0.4 for a pruned one") from None
    return precision, pruning


def ours(setting: Setting, precision: Precision, pruning: float, data_dir: Path, knobs: Mapping[str, Any]) -> Contender:
    """Our node as `python -m inference_node` starts it. `knobs` go over the settings that the comparison needs."""
    settings = {
        "max_batch_size": setting.max_streams,
        "max_queue": max(256, setting.max_streams),
        **knobs,
        "precision": precision.value,
        "pruning_threshold": pruning,
    }
    EngineSettings.model_validate(settings)
    port = free_port()
    command = (
        *(sys.executable, "-m", "inference_node", "--model", str(setting.model)),
        *("--served-model-name", setting.model_name, "--port", str(port), "--threads", str(setting.threads)),
        *("--data-dir", str(data_dir), "--log-level", "WARNING", "--settings", json.dumps(settings)),
    )
    launch = Launch(command, port, setting.model_name, ready_path="/readyz")
    return Contender(OURS, metadata.version("trimtab"), precision, pruning, launch)


def peer(peer: Peer, venv: Path, setting: Setting, precision: Precision) -> Contender:
    """Raises Invalid when its environment lacks the package."""
    version = version_of(peer, venv)
    if version is None:
        lines = "; ".join(peer.install(venv))
        raise Invalid(f"{venv} has no {peer.package}. It is made with: {lines}")
    return Contender(peer.name, version, precision, 0.0, peer.launch(setting, precision, venv, free_port()))
