"""OpenVINO GenAI: its continuous batching, reading GGUF files."""

from dataclasses import dataclass
from pathlib import Path

from inference_node.bench.gguf_files import gguf_for
from inference_node.bench.peers.peer import Setting, behind_door, python_of
from inference_node.bench.process import Launch
from inference_node.contract.settings import Precision

_CACHE_GB = 1
# Its default of 256 gave 599 tokens/s at 32 streams, 512 gave 649, 2048 gave 689 (F16 file, 2 cores with AMX, 128 in, 64 out).
_BATCHED_TOKENS = 2048


@dataclass(frozen=True, slots=True)
class OpenVino:
    """16 bit is an F16 file computed in bf16 (the library refuses BF16 files); 8 and 4 bit are Q8_0 and Q4_1.

    Which arithmetic is the faster one for quantised files depends on the load, so there are two of these: one computes in
    bf16, one in fp32 with activations rounded to int8 in groups. Give both, and the better one is the peer to beat.
    """

    name: str
    precisions: tuple[Precision, ...]
    precision_hint: str
    dynamic_group: int | None = None
    package: str = "openvino-genai"

    def install(self, venv: Path) -> tuple[str, ...]:
        return (f"python3.11 -m venv {venv}", f"{venv}/bin/pip install openvino-genai")

    def launch(self, setting: Setting, precision: Precision, venv: Path, port: int) -> Launch:
        command = behind_door(
            *(python_of(venv), setting, port, "openvino_engine.py"),
            *("--model", str(gguf_for(precision, setting.gguf_dir))),
            *("--precision-hint", self.precision_hint, "--dynamic-group", str(self.dynamic_group or "default")),
            *("--max-streams", str(setting.max_streams), "--cache-gb", str(_CACHE_GB)),
            *("--batched-tokens", str(_BATCHED_TOKENS)),
        )
        return Launch(command, port, setting.model_name)


OPENVINO = OpenVino("openvino", (Precision.BF16, Precision.INT8, Precision.INT4), "bf16")
OPENVINO_DYNAMIC = OpenVino("openvino-dynamic", (Precision.INT8, Precision.INT4), "f32", dynamic_group=32)
