"""The engine as its users see it: server, agent and the Python door write against this. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from inference_node.contract.messages import AckOutcome, NodeCapabilities, NodeHardware
from inference_node.contract.quality import NodeQuality
from inference_node.contract.served import ServedQuality, ServedWatch
from inference_node.contract.settings import EngineSettings, KnobBounds
from inference_node.contract.step_profile import StepProfile
from inference_node.engine.requests import EngineRequest
from inference_node.engine.streams import TokenStream


@dataclass(frozen=True, slots=True)
class Applied:
    """`settings` are in force from `step` on, the number of the first step that runs under them.

    forced: the quality guard would not have let them through.
    """

    step: int
    settings: EngineSettings
    outcome: AckOutcome
    forced: bool = False


@dataclass(frozen=True, slots=True)
class ReplicaStats:
    """One replica at a moment.

    `cpus` are those that its threads keep to, none where the system chooses; `is_bound` whether the system let them. `taken_over`
    counts the requests that it took from others' queues. `service_s` is how long a request was served for lately.
    """

    number: int
    threads: int
    cpus: tuple[int, ...]
    numa_node: int | None
    is_bound: bool
    running: int
    waiting: int
    blocks_total: int
    blocks_used: int
    blocks_cached: int
    batch_cap: int
    steps: int
    preemptions: int
    taken_over: int
    failed_steps: int
    pruned_ratio: float
    service_s: float


@dataclass(frozen=True, slots=True)
class EngineStats:
    """The engine at a moment, all replicas together. `kv_usage` is the share of blocks held by requests, 0 to 1; cached blocks
    count as free. `step` is the number of the latest step of any replica."""

    running: int
    waiting: int
    kv_usage: float
    blocks_total: int
    blocks_used: int
    blocks_cached: int
    block_size: int
    step: int
    batch_cap: int
    preemptions: int
    pruned_ratio: float
    numerics: str
    accepting: bool
    preparing: EngineSettings | None
    failed_steps: int
    measuring: float | None = None  # share of a quality measurement that is done
    replicas: tuple[ReplicaStats, ...] = ()


class ServingEngine(Protocol):
    """What `AsyncEngine` offers. It belongs to the event loop that called `start`; `stats` may be asked from any thread."""

    @property
    def tokenizer(self) -> Any:
        """The Hugging Face tokenizer, with `apply_chat_template`."""

    @property
    def model_name(self) -> str: ...

    @property
    def max_model_len(self) -> int: ...

    @property
    def capabilities(self) -> NodeCapabilities: ...

    @property
    def hardware(self) -> NodeHardware: ...

    @property
    def settings(self) -> EngineSettings:
        """The settings in force."""

    @property
    def last_error(self) -> str | None:
        """The last failed step, in one line."""

    def start(self) -> None:
        """Starts the engine's thread; call on the event loop that will read the streams."""

    async def shutdown(self, drain_s: float) -> None:
        """Takes no more requests, lets the admitted ones end for up to drain_s, cancels the rest, joins the thread."""

    async def submit(self, request: EngineRequest) -> TokenStream:
        """Admits a request. Raises QueueFull, PromptTooLong, RequestInvalid, EngineStopped."""

    async def apply(
        self, settings: EngineSettings, *, bounds: Mapping[str, KnobBounds] | None = None, force: bool = False
    ) -> Applied:
        """Brings settings into force between two steps; returns when they are.

        Arithmetic that is neither in force nor full precision needs a quality record that holds; one that is missing is made
        first. `force` does without.
        `bounds` is the envelope inside which the node's reflex may move max_batch_size; absent, it may only go below the target.
        Raises SettingsRefused when this node cannot run them, Superseded when a newer call overtakes one that is
        being prepared, EngineStopped. Cancelling the caller leaves the change under way.
        """

    def stats(self) -> EngineStats: ...

    def quality(self) -> NodeQuality:
        """What was measured of the answers' quality, and the ceiling. Quick, from any thread."""

    def watch_served(self, watch: ServedWatch | None) -> None:
        """Scores a share of what is served from now on against full precision, below serving in priority; None ends it. Quick,
        and again with the same watch does nothing."""

    def served(self) -> ServedQuality | None:
        """What came of the watch so far; None without one. Quick."""

    def step_profile(self) -> StepProfile: ...

    def step_error(self) -> tuple[float, float] | None:
        """Median and 95 % quantile of the relative error of predicted step times; None before the first served step."""
