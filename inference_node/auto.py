"""The Python door: `AutoInferenceEngine.from_pretrained(folder).quantize("auto").deploy(port=8000)`.

Importing this module loads no torch; `deploy` does.
"""

import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self, overload

from inference_node.config import ConfigInvalid, NodeConfig
from inference_node.contract.settings import EngineSettings, KnobValue, Precision

if TYPE_CHECKING:
    from inference_node.server.app import Served

Mode = Literal["auto", "fp32", "bf16", "int8"]

# Instruction sets that a precision needs to be worth it, best first. With AMX, int8 and bf16 decode alike at small batches and
# bf16 keeps the answers (0.0006 against 0.017 mean KL divergence on the demo model); VNNI alone makes int8 the faster one.
_PREFERENCES: tuple[tuple[str, Precision], ...] = (
    ("amx_bf16", Precision.BF16),
    ("avx512_bf16", Precision.BF16),
    ("avx512_vnni", Precision.INT8),
)


class AutoInferenceEngine:
    """A model folder and the settings to serve it with. Methods return self, so that they chain."""

    def __init__(self, config: NodeConfig, settings: EngineSettings) -> None:
        self.config = config
        self.settings = settings

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, data_dir: str | Path | None = None) -> Self:
        """A model in Hugging Face format. Nothing is read before `deploy`."""
        kept = Path(data_dir) if data_dir is not None else Path(tempfile.gettempdir()) / "trimtab"
        return cls(NodeConfig(model=Path(folder), data_dir=kept), EngineSettings())

    def quantize(self, mode: Mode = "auto") -> Self:
        """Chooses the weights' format; `auto` by this machine's instruction sets. Raises ConfigInvalid for an unknown mode."""
        if mode == "auto":
            self.settings = self.settings.replace(precision=preferred_precision())
            return self
        if mode not in ("fp32", "bf16", "int8"):
            raise ConfigInvalid(f"quantize(mode={mode!r}): this engine has auto, fp32, bf16 and int8")
        self.settings = self.settings.replace(precision=mode)
        return self

    def tune(self, **knobs: KnobValue) -> Self:
        """Sets other knobs, say max_batch_size=16. Raises pydantic.ValidationError naming the knob."""
        self.settings = self.settings.replace(**knobs)
        return self

    @overload
    def deploy(self, host: str = ..., port: int = ..., *, blocking: Literal[True] = ...) -> int: ...
    @overload
    def deploy(self, host: str = ..., port: int = ..., *, blocking: Literal[False]) -> "Served": ...
    def deploy(self, host: str = "127.0.0.1", port: int = 8000, *, blocking: bool = True) -> "int | Served":
        """Loads the model and serves the OpenAI API. Raises NodeError: the text says what is wrong.

        Blocking, it runs until SIGTERM or Ctrl-C and returns the exit code. Otherwise it returns once the node is ready: a
        handle with `.url` and `.close()`. Port 0 takes a free one.
        """
        # torch and the server are needed from here on only.
        from inference_node.engine.async_engine import AsyncEngine  # noqa: PLC0415
        from inference_node.metrics import NodeMetrics  # noqa: PLC0415
        from inference_node.server.app import serve, serve_in_background  # noqa: PLC0415

        config = self.config.model_copy(update={"host": host, "port": port})
        metrics = NodeMetrics(config.model_name, metadata.version("trimtab"))
        engine = AsyncEngine.load(config, self.settings, listener=metrics)
        run: Callable[..., int | Served] = serve if blocking else serve_in_background
        return run(engine, config, metrics=metrics)


def preferred_precision(features: frozenset[str] | None = None) -> Precision:
    """The format to begin with on this machine; the control plane may find a better one under load."""
    if features is None:
        from inference_node.engine.hardware import describe  # noqa: PLC0415 - loads torch

        features = frozenset(describe(threads=1).features)
    return next((precision for feature, precision in _PREFERENCES if feature in features), Precision.FP32)
