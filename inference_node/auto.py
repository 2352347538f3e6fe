"""The Python door: `AutoInferenceEngine.from_pretrained(folder).quantize("auto").deploy(port=8000)`.

Importing this module loads no torch; `deploy` does.
"""

import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self, get_args, overload

from inference_node.config import ConfigInvalid, NodeConfig
from inference_node.contract.settings import EngineSettings, KnobValue, Precision

if TYPE_CHECKING:
    from inference_node.server.app import Served

Mode = Literal["auto", "fp32", "bf16", "int8", "int4"]


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
        """Chooses the weights' format; `auto` leaves it to the loaded model: the fastest here whose answers are good enough.

        Raises ConfigInvalid for an unknown mode.
        """
        if mode not in get_args(Mode):
            raise ConfigInvalid(f"quantize(mode={mode!r}): this engine has {', '.join(get_args(Mode))}")
        self.config = self.config.model_copy(update={"precision": mode if mode == "auto" else Precision(mode)})
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

        first = self.settings.model_dump_json()
        config = self.config.model_copy(update={"host": host, "port": port, "settings_json": first})
        metrics = NodeMetrics(config.model_name, metadata.version("trimtab"))
        engine = AsyncEngine.load(config, listener=metrics)
        run: Callable[..., int | Served] = serve if blocking else serve_in_background
        return run(engine, config, metrics=metrics)
