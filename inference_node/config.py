"""Process settings of a node: read once at start, never changed while it runs. What may change is `EngineSettings`."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, PositiveInt, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from inference_node.contract.messages import Name
from inference_node.contract.settings import EngineSettings, Precision
from inference_node.errors import Invalid


class ConfigInvalid(Invalid):
    """A process setting is wrong; the text names it."""


class NodeConfig(BaseSettings):
    """One node. Every field is `NODE_<NAME>` in the environment."""

    model_config = SettingsConfigDict(env_prefix="NODE_", frozen=True, extra="ignore")

    model: Path = Field(description="folder in Hugging Face format: config.json, tokenizer, *.safetensors")
    served_model_name: str | None = Field(
        default=None, description="name that clients ask for; by default the folder's"
    )
    name: Name = "node-1"
    pool: Name = "default"
    fleet: Name = "default"

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535, description="0 picks a free one")
    url: str | None = Field(default=None, description="how others reach this node; by default host and port")

    controlplane_url: str | None = Field(default=None, description="absent: the node stands alone")
    enrolment_token: SecretStr | None = None
    data_dir: Path = Field(default=Path(".trimtab"), description="admin token, last settings, calibration")

    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="where to compute: cuda, cpu, or auto: a GPU that can run the model, else the CPU"
    )
    threads: int | None = Field(default=None, ge=1, description="threads of computation; by default the physical cores")
    cpu_affinity: str = Field(
        default="auto",
        description="where to compute: auto (one NUMA node, where there are several), off, numa:0, or CPUs as in 0-7,16",
    )
    replicas: Literal["auto"] | PositiveInt = Field(
        default=1,
        description="engines in this process that share weights and work, each with cores and a KV cache of its own; "
        "auto: one for each NUMA node. Knobs of a step are each replica's",
    )
    max_model_len: int = Field(default=2048, ge=16, description="longest prompt plus answer, in tokens")
    kv_tokens: int | None = Field(
        default=None,
        ge=64,
        description="tokens in the KV cache, of all replicas together; by default 24576 on the CPU, 65536 on a GPU, at least "
        "max_model_len for each, less if memory is short",
    )
    block_size: Literal[16, 32] = 32
    settings_json: str | None = Field(default=None, description="first EngineSettings, as JSON; the rest is default")
    precision: Literal["auto"] | Precision | None = Field(
        default=None,
        description="first precision, over that of the settings; auto: the fastest here of those whose answers are good enough",
    )

    client_timeout_s: float = Field(
        default=30.0, gt=0, description="how long a client may take to send a request, or to take any of its answer"
    )
    max_connections: int = Field(default=1000, ge=1, description="open connections; further ones get 429")
    max_perplexity_ratio: float = Field(
        default=1.15, ge=1, description="quality ceiling: perplexity over that of full precision, on held-out text"
    )
    max_kl: float = Field(
        default=0.3, gt=0, description="quality ceiling: mean KL divergence from full precision, nats per token"
    )

    score_served: bool = Field(
        default=True,
        description="whether a few served texts may be held in memory, to be scored against full precision when "
        "a rollout asks for it; without, changes of precision or pruning wait for a person",
    )

    drain_s: float = Field(default=30.0, ge=0, description="how long running requests may end at shutdown")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_json: bool = False

    @field_validator("model", "data_dir")
    @classmethod
    def _expand_home(cls, value: Path) -> Path:
        return value.expanduser()

    @model_validator(mode="after")
    def _settings_are_readable(self) -> Self:
        if self.settings_json is not None:
            EngineSettings.model_validate_json(self.settings_json)
        return self

    @property
    def model_name(self) -> str:
        return self.served_model_name or self.model.resolve().name

    @property
    def base_url(self) -> str:
        return (self.url or f"http://{self.host}:{self.port}").rstrip("/")

    def initial_settings(self) -> EngineSettings:
        """What the engine starts with: `settings_json` over the defaults, `precision` over both, but for `auto`, which takes the
        loaded model. Raises ConfigInvalid naming the knob."""
        try:
            settings = EngineSettings.model_validate_json(self.settings_json or "{}")
        except ValidationError as error:
            first = error.errors()[0]
            knob = ".".join(str(part) for part in first["loc"]) or "settings_json"
            raise ConfigInvalid(f"NODE_SETTINGS_JSON: {knob}: {first['msg']}") from None
        return settings.replace(precision=self.precision) if isinstance(self.precision, Precision) else settings
