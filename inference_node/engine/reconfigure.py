"""New settings for a running engine: whether this node can run them, and the memory they need prepared beside what runs."""

import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from inference_node.contract.messages import NodeCapabilities, RejectCode
from inference_node.contract.settings import EngineSettings, Precision
from inference_node.engine.errors import SettingsRefused, Superseded
from inference_node.engine.hardware import available_bytes, total_bytes
from inference_node.engine.own_thread import in_own_thread
from inference_node.model.backend import Store, build, estimate_bytes, kv_dtype, why_not_kv, why_not_native
from inference_node.model.checkpoint import Checkpoint
from inference_node.model.foreign.store import LIMITS
from inference_node.model.runner import ModelRunner, Numerics
from inference_node.model.spec import ModelSpec
from inference_node.pruning.calibrate import learn, load_or_learn
from inference_node.pruning.observe import Observer
from inference_node.pruning.prune import Pruner
from inference_node.pruning.thresholds import PruningTable

# Memory that stays free after a preparation, as a share of the machine's.
_HEADROOM = 0.05
_WHY_NOT = {
    Precision.FP16: "this CPU has no fast fp16 arithmetic in torch (0.37 TFLOP/s against 2.6 in bf16)",
    Precision.FP8: "CPUs have no fp8 arithmetic",
    Precision.INT8: "this torch has no oneDNN int8 product",
}


class Reconfigurer:
    """Keeps the formats that are in memory. `check` and `is_ready` are quick; `prepare` takes seconds, on a thread of its own."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        spec: ModelSpec,
        capabilities: NodeCapabilities,
        *,
        calibration_dir: Path,
        calibration_tokens: Sequence[int],
        kv_room_bytes: int | None = None,
        enter_memories: Sequence[Callable[[], object]] = (),
    ) -> None:
        """kv_room_bytes: what keys and values may take; None where every form of them has room.

        enter_memories: for each part of the memory that keeps weights of its own, what brings a thread there. The first is where
        `prepare` is called; without any there is one part.
        """
        self._checkpoint = checkpoint
        self._spec = spec
        self._capabilities = capabilities
        self._kv_room_bytes = kv_room_bytes
        self._enter_memories = tuple(enter_memories) or (lambda: None,)
        # One store for each memory.
        self._stores: dict[Precision, tuple[Store, ...]] = {}
        self._table: PruningTable | None = None
        self._calibration = calibration_dir / f"{checkpoint.fingerprint}.safetensors"
        self._tokens = tuple(calibration_tokens)
        # One preparation at a time: two at once would need the memory of both.
        self._building = threading.Lock()

    @property
    def resident(self) -> tuple[Precision, ...]:
        """Precisions whose weights are in memory."""
        return tuple(self._stores)

    @property
    def num_memories(self) -> int:
        return len(self._enter_memories)

    def stores(self, precision: Precision) -> tuple[Store, ...]:
        """Weights that are in memory, those of each part of it."""
        return self._stores[precision]

    def adopt(self, store: Store) -> None:
        """Weights that somebody has read already, where there is one memory."""
        self._stores[store.precision] = (store,)

    def build_first(self, precision: Precision, progress: Callable[[float], None]) -> Store:
        """Reads the weights that the node starts with, into each memory; those of the first. Blocks; raises ModelInvalid."""
        self._stores[precision] = self._build(precision, progress)
        return self._stores[precision][0]

    def check(self, settings: EngineSettings) -> None:
        """Raises SettingsRefused when this node cannot run them, ever."""
        limits = self._capabilities
        if settings.precision not in limits.precisions:
            have, why = ", ".join(limits.precisions), self._why_not(settings.precision)
            raise _refused(RejectCode.NOT_SUPPORTED, "precision", f"{settings.precision}: {why}; this node has {have}")
        if (reason := why_not_kv(self._spec, settings.precision, settings.kv_precision)) is not None:
            raise _refused(RejectCode.NOT_SUPPORTED, "kv_precision", f"{settings.kv_precision}: {reason}")
        self._check_kv_room(settings)
        if settings.pruning_threshold > 0 and self._spec.foreign is not None:
            raise _refused(RejectCode.NOT_SUPPORTED, "pruning_threshold", f"{settings.pruning_threshold}: {LIMITS}")
        for knob in ("max_batch_size", "max_batched_tokens"):
            value, limit = getattr(settings, knob), getattr(limits, knob)
            if value > limit:
                raise _refused(RejectCode.OUT_OF_BOUNDS, knob, f"{value} is above this node's {limit}")

    def is_ready(self, settings: EngineSettings, runner: ModelRunner) -> bool:
        """Whether they could be applied between two steps right now."""
        stores = self._stores.get(settings.precision)
        if stores is None or not runner.ready_for(stores[0], settings.kv_precision):
            return False
        return settings.pruning_threshold == 0 or self._table is not None

    def numerics(self, settings: EngineSettings, memory: int = 0) -> Numerics:
        """The arithmetic of settings that are ready, for a replica that reads that memory."""
        pruner = None
        if settings.pruning_threshold > 0:
            assert self._table is not None
            pruner = Pruner(self._table.cutoffs(settings.pruning_threshold), self._table.weights)
        return Numerics(self._stores[settings.precision][memory], pruner, settings.kv_precision)

    def prepare(
        self, settings: EngineSettings, runner: ModelRunner, running: Precision, is_wanted: Callable[[], bool]
    ) -> None:
        """Builds what is missing, beside the engine that goes on serving.

        Raises SettingsRefused when memory is short, Superseded as soon as is_wanted() says that nobody needs it any more.
        """
        try:
            self._prepare(settings, runner, running, is_wanted)
        except (torch.OutOfMemoryError, MemoryError) as error:
            # What was reckoned to fit did not: others use the device too, or what is free lies in pieces.
            changed = "precision" if settings.precision not in self._stores else "kv_precision"
            text = (
                f"memory ran out while it was prepared ({str(error).split('. ')[0]}); fewer NODE_KV_TOKENS leave more"
            )
            raise _refused(RejectCode.OUT_OF_MEMORY, changed, f"{getattr(settings, changed)}: {text}") from error

    def _prepare(
        self, settings: EngineSettings, runner: ModelRunner, running: Precision, is_wanted: Callable[[], bool]
    ) -> None:
        with self._building:
            stores = self._stores.get(settings.precision)
            if stores is None:
                self._make_room(settings.precision, running)
                stores = self._build(settings.precision, lambda share: stop_unless(is_wanted))
            if not runner.ready_for(stores[0], settings.kv_precision):
                self._make_cache_room(settings, runner, running)
                runner.begin(stores[0], settings.kv_precision)
            self._stores[settings.precision] = stores
            stop_unless(is_wanted)
            if settings.pruning_threshold > 0 and self._table is None:
                self._table = self._learn(runner, self._stores[running][0], is_wanted)

    def warm_next(self, runner: ModelRunner, running: Precision) -> bool:
        """Prepares one more size of step with weights that are in memory, first those that run. Returns whether more are left."""
        stores = sorted(self._stores.items(), key=lambda item: item[0] is not running)
        return any(runner.warm_next(each[0]) for _, each in stores)

    def full_precision(self, running: Precision) -> Store:
        """bf16 weights: those in memory, or others that live as long as the caller holds them. Raises SettingsRefused."""
        with self._building:
            if (stores := self._stores.get(Precision.BF16)) is not None:
                return stores[0]
            self._make_room(Precision.BF16, running, memories=1)
            return build(self._checkpoint, self._spec, Precision.BF16)

    def drop_unused(self, running: Precision) -> None:
        """Lets go of every format but the running one. Going back to it later is a preparation again."""
        for precision in [p for p in self._stores if p is not running]:
            del self._stores[precision]

    def _build(self, precision: Precision, progress: Callable[[float], None]) -> tuple[Store, ...]:
        """A store for each memory, written first from there, so that it lies there. `progress` may raise to give up midway."""

        def build_in(memory: int) -> Store:
            self._enter_memories[memory]()
            resident = tuple(stores[memory] for stores in self._stores.values())
            count = self.num_memories
            return build(
                self._checkpoint, self._spec, precision, lambda share: progress((memory + share) / count), resident
            )

        if self.num_memories == 1:
            return (build_in(0),)
        return tuple(in_own_thread(partial(build_in, memory), "pack") for memory in range(self.num_memories))

    def _check_kv_room(self, settings: EngineSettings) -> None:
        """A node that started with narrow keys and values has more blocks than the widest form has room for."""
        tokens = self._capabilities.kv_tokens
        needed = tokens * self._spec.kv_bytes_per_token(kv_dtype(settings.precision, settings.kv_precision))
        if self._kv_room_bytes is not None and needed > self._kv_room_bytes:
            raise _refused(
                RejectCode.OUT_OF_MEMORY,
                "precision",
                f"{settings.precision}: keys and values of the {tokens} tokens that this node has room for since it started "
                f"would take {needed / 1e6:.0f} MB in it, and may take {self._kv_room_bytes / 1e6:.0f} MB. "
                "Lower NODE_KV_TOKENS and start it again.",
            )

    def _why_not(self, precision: Precision) -> str:
        if self._spec.foreign is not None:
            return LIMITS
        if precision is Precision.INT4:
            return f"it needs the native kernels, and {why_not_native(self._spec)}"
        return _WHY_NOT.get(precision, "it is not available here")

    def _make_room(self, precision: Precision, running: Precision, memories: int | None = None) -> None:
        copies = self.num_memories if memories is None else memories
        needed = copies * estimate_bytes(self._spec, precision) + int(_HEADROOM * total_bytes())
        if available_bytes() < needed:
            self.drop_unused(running)
        if (free := available_bytes()) < needed:
            raise _refused(
                RejectCode.OUT_OF_MEMORY,
                "precision",
                f"{precision} beside {running} needs {needed / 1e6:.0f} MB free to be prepared, {free / 1e6:.0f} MB are",
            )

    def _make_cache_room(self, settings: EngineSettings, runner: ModelRunner, running: Precision) -> None:
        if (cache := runner.room_for(settings.kv_precision)) == 0:
            return
        needed = cache + int(_HEADROOM * total_bytes())
        if available_bytes() < needed:
            for precision in [p for p in self._stores if p not in (running, settings.precision)]:
                del self._stores[precision]
        if (free := available_bytes()) < needed:
            raise _refused(
                RejectCode.OUT_OF_MEMORY,
                "kv_precision",
                f"{settings.kv_precision} keys and values beside those in use need {needed / 1e6:.0f} MB free to be prepared, "
                f"{free / 1e6:.0f} MB are. Lower NODE_KV_TOKENS and start the node again.",
            )

    def _learn(self, runner: ModelRunner, store: Store, is_wanted: Callable[[], bool]) -> PruningTable:
        def run(tokens: Sequence[int], hook: Observer | Pruner | None) -> Tensor:
            stop_unless(is_wanted)
            return runner.logits_apart(tokens, store, hook, every_token=not isinstance(hook, Observer))

        return load_or_learn(
            self._calibration,
            fingerprint=self._checkpoint.fingerprint,
            num_layers=self._spec.num_layers,
            learn=lambda: learn(run, self._tokens, self._spec.site_weights, self._spec.num_layers),
        )


def _refused(code: RejectCode, knob: str, message: str) -> SettingsRefused:
    return SettingsRefused(code, knob, message)


def stop_unless(is_wanted: Callable[[], bool]) -> None:
    """Raises Superseded once nobody needs it any more."""
    if not is_wanted():
        raise Superseded("newer settings took the place of these while they were being prepared")
