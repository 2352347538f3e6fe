"""transformers' continuous batching, in bf16."""

from pathlib import Path

from inference_node.bench.peers.peer import Setting, behind_door, python_of
from inference_node.bench.process import Launch
from inference_node.contract.settings import Precision


class TransformersCb:
    """Any environment with torch and transformers will do, ours too."""

    name = "transformers"
    package = "transformers"
    precisions = (Precision.BF16,)

    def install(self, venv: Path) -> tuple[str, ...]:
        return (f"python3.11 -m venv {venv}", f"{venv}/bin/pip install torch==2.13.0 transformers accelerate")

    def launch(self, setting: Setting, precision: Precision, venv: Path, port: int) -> Launch:
        command = behind_door(
            *(python_of(venv), setting, port, "transformers_engine.py", "--model", str(setting.model)),
            *("--max-streams", str(setting.max_streams), "--threads", str(setting.threads)),
        )
        return Launch(command, port, setting.model_name)
