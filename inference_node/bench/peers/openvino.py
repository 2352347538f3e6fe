"""OpenVINO GenAI: its continuous batching, reading GGUF files."""

from pathlib import Path

from inference_node.bench.gguf_files import gguf_for
from inference_node.bench.peers.peer import Setting, python_of, server_file
from inference_node.bench.process import Launch
from inference_node.contract.settings import Precision

_CACHE_GB = 1


class OpenVino:
    """16 bit is an F16 file computed in bf16 (the library refuses BF16 files); 8 and 4 bit are Q8_0 and Q4_1."""

    name = "openvino"
    package = "openvino-genai"
    precisions = (Precision.BF16, Precision.INT8, Precision.INT4)

    def install(self, venv: Path) -> tuple[str, ...]:
        return (f"python3.11 -m venv {venv}", f"{venv}/bin/pip install openvino-genai")

    def launch(self, setting: Setting, precision: Precision, venv: Path, port: int) -> Launch:
        command = (
            *(python_of(venv), server_file("openvino_server.py")),
            *("--model", str(gguf_for(precision, setting.gguf_dir)), "--name", setting.model_name, "--port", str(port)),
            # Its default in fast mode on this kind of CPU, said aloud so that no version changes it.
            *("--precision-hint", "bf16", "--max-streams", str(setting.max_streams), "--cache-gb", str(_CACHE_GB)),
        )
        return Launch(command, port, setting.model_name)
