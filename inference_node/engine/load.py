"""From a model folder to an engine ready to step: reads, prepares the first precision, sizes the cache, warms up and probes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from typing import Any

import structlog
from transformers import AutoTokenizer

from inference_node.config import ConfigInvalid, NodeConfig
from inference_node.contract.messages import NodeCapabilities, NodeHardware
from inference_node.contract.settings import KNOBS, EngineSettings, Precision
from inference_node.engine import hardware
from inference_node.engine.auto_precision import candidates, choose_precision
from inference_node.engine.cache_size import cache_tokens, kv_room_bytes, require_room, with_kv
from inference_node.engine.engine import Change, Engine
from inference_node.engine.guard import QualityGuard
from inference_node.engine.hardware_table import hardware_class
from inference_node.engine.kept_steps import Identity
from inference_node.engine.listener import EngineListener
from inference_node.engine.own_thread import in_own_thread
from inference_node.engine.placement import Placement, place_here
from inference_node.engine.rates import known_rates
from inference_node.engine.reconfigure import Reconfigurer
from inference_node.engine.step_counter import StepCounter
from inference_node.engine.step_learner import StepLearner
from inference_node.engine.step_model import StepModel
from inference_node.engine.step_probe import probe
from inference_node.engine.work import WorkModel
from inference_node.model import device
from inference_node.model.backend import (
    describe,
    estimate_bytes,
    most_tokens,
    supported_kv_precisions,
    supported_precisions,
    why_not_native,
)
from inference_node.model.checkpoint import Checkpoint
from inference_node.model.errors import ModelInvalid
from inference_node.model.runner import ModelRunner
from inference_node.model.runners import make_runner
from inference_node.model.spec import ModelSpec
from inference_node.pruning.text import MOST_TOKENS, TEXT

log = structlog.get_logger("engine")

Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Loaded:
    """All that an AsyncEngine is made of."""

    engines: tuple[Engine, ...]
    reconfigurer: Reconfigurer
    tokenizer: Any
    spec: ModelSpec
    capabilities: NodeCapabilities
    hardware: NodeHardware
    placements: tuple[Placement, ...]
    learner: StepLearner
    guard: QualityGuard

    @property
    def memories(self) -> tuple[int, ...]:
        """Which of the reconfigurer's memories each engine reads."""
        return memories_of(self.placements)


def memories_of(placements: Sequence[Placement]) -> tuple[int, ...]:
    """Numbers the parts of the memory that replicas read: one for each NUMA node that is used, the first replica's first."""
    nodes = list(dict.fromkeys(placement.numa_node for placement in placements))
    return tuple(nodes.index(placement.numa_node) for placement in placements)


def load(config: NodeConfig, kept: EngineSettings | None, listener: EngineListener, progress: Progress) -> Loaded:
    """Seconds of work; call it from a thread that may block.

    kept: settings of an earlier run; without, the configuration's.

    Raises ModelNotFound, ModelInvalid, ModelUnsupported, ConfigInvalid, SettingsRefused.
    """
    progress("reading the model", 0.0)
    settings = kept or config.initial_settings()
    spec = describe(config.model)
    device.use(gpu := _gpu_for(config, spec))
    if gpu is not None and config.replicas not in (1, "auto"):
        raise ConfigInvalid(
            f"NODE_REPLICAS={config.replicas}: a GPU runs one engine. Set it to 1 or auto, or NODE_DEVICE=cpu."
        )
    if spec.foreign is not None:
        log.warning("model_runs_in_transformers_module", family=spec.family, reason=spec.foreign.reason)
    elif (reason := why_not_native(spec)) is not None:
        log.warning("model_runs_in_plain_torch", family=spec.family, reason=reason)
    checkpoint = Checkpoint.open(config.model)
    tokenizer = load_tokenizer(config)
    placements = place_here(config.cpu_affinity, config.threads, 1 if gpu is not None else config.replicas)
    placement, memories = placements[0], memories_of(placements)
    placement.enter()
    hardware.use_threads(placement.threads)
    machine = hardware.describe(sum(each.threads for each in placements))
    fingerprint = hardware.fingerprint(machine)
    order: tuple[Precision, ...] = ()
    if kept is None and config.precision == "auto":
        order = candidates(
            hardware_class(machine.features), with_kv(spec, settings.kv_precision), settings.max_batch_size
        )
        settings = settings.replace(precision=order[0])
    progress("measuring the machine", 0.02)
    # Before keep_freed_memory: what is measured on goes back to the system.
    rates = known_rates(config.data_dir / "hardware", fingerprint, estimate_bytes(spec, settings.precision))
    machine = hardware.describe(sum(each.threads for each in placements), rates)
    hardware.keep_freed_memory()

    max_model_len = min(config.max_model_len, spec.max_positions)
    spec = replace(spec, max_positions=max_model_len)  # no rotation is kept for places that no request can reach
    require_room(spec, settings.precision, max(memories) + 1)
    kv_room = kv_room_bytes(spec, settings.precision, copies=max(memories) + 1)
    kv_tokens = cache_tokens(config, spec, max_model_len, kv_room, settings.kv_precision, len(placements))
    num_blocks = kv_tokens // len(placements) // config.block_size  # of each replica
    capabilities = NodeCapabilities(
        precisions=supported_precisions(spec),
        kv_precisions=supported_kv_precisions(spec),
        max_batch_size=int(KNOBS["max_batch_size"].maximum or 1),
        max_batched_tokens=most_tokens(spec) or int(KNOBS["max_batched_tokens"].maximum or 64),
        max_model_len=max_model_len,
        kv_tokens=len(placements) * num_blocks * config.block_size,
    )

    def encode(text: str) -> list[int]:
        tokens: list[int] = tokenizer(text)["input_ids"]
        return tokens

    reconfigurer = Reconfigurer(
        checkpoint,
        spec,
        capabilities,
        calibration_dir=config.data_dir / "calibration",
        calibration_tokens=encode(TEXT)[: min(MOST_TOKENS, max_model_len)],
        kv_room_bytes=kv_room,
        enter_memories=[placements[memories.index(memory)].enter for memory in range(max(memories) + 1)],
    )
    reconfigurer.check(settings)
    first_precision = settings.precision
    progress(f"preparing {first_precision} weights", 0.1)
    store = reconfigurer.build_first(
        first_precision, lambda share: progress(f"preparing {first_precision} weights", 0.1 + 0.6 * share)
    )

    def runner_for(replica: int) -> ModelRunner:
        placements[replica].enter()  # its threads are bound like the one that starts them
        return make_runner(
            spec,
            reconfigurer.stores(settings.precision)[memories[replica]],
            num_blocks=num_blocks,
            block_size=config.block_size,
            max_model_len=max_model_len,
            kv=settings.kv_precision,
            cpus=placements[replica].cpus,
        )

    runner = runner_for(0)
    runner.warm(store)
    runner.compile(capabilities.precisions, lambda share: progress("compiling kernels", 0.7 + 0.02 * share))
    guard = QualityGuard.of(config, runner, checkpoint.fingerprint, encode, longest=max_model_len)
    if order:
        settings = choose_precision(
            settings, order, runner, reconfigurer, guard, max_model_len=max_model_len, progress=progress
        )
    dense = settings.replace(pruning_threshold=0.0)  # what the probe runs
    times = StepModel(Identity(fingerprint, checkpoint.fingerprint, version("trimtab")), dense)
    learner = StepLearner(times, config.data_dir / "step_times")
    learner.begin(
        lambda steps, budget_s: probe(
            runner,
            steps,
            max_model_len=max_model_len,
            progress=lambda share: progress("warming up", 0.7 + 0.3 * share),
            budget_s=budget_s,
        )
    )
    others = [in_own_thread(partial(runner_for, replica), "load engine") for replica in range(1, len(placements))]
    steps = StepCounter()
    engines = tuple(
        Engine(each, settings, listener, times, work=WorkModel.of(spec), steps=steps, replica=number)
        for number, each in enumerate((runner, *others))
    )
    if settings.pruning_threshold > 0:
        reconfigurer.prepare(settings, runner, settings.precision, lambda: True)
        for engine, memory in zip(engines, memories, strict=True):
            engine.apply(Change(settings, reconfigurer.numerics(settings, memory), None))
    progress("ready", 1.0)
    return Loaded(engines, reconfigurer, tokenizer, spec, capabilities, machine, placements, learner, guard)


def load_tokenizer(config: NodeConfig) -> Any:
    """The folder's own tokenizer; nothing is fetched and no code of the model's runs. Raises ModelInvalid."""
    try:
        return AutoTokenizer.from_pretrained(config.model, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # noqa: BLE001 - transformers raises anything here, down to its Rust parts' bare Exception
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelInvalid(f"the tokenizer in {config.model} cannot be loaded: {reason}") from None


def _gpu_for(config: NodeConfig, spec: ModelSpec) -> device.Gpu | None:
    """The GPU that runs the model, or None for the CPU. Raises ConfigInvalid when one is demanded that cannot."""
    wanted = device.DeviceKind(config.device)
    if wanted is device.DeviceKind.CPU:
        return None
    try:
        gpu = device.find_gpu()
        if spec.foreign is not None:
            raise device.GpuUnavailable(f"models of type {spec.family} run in transformers' module, on the CPU")
        needed, has = estimate_bytes(spec, Precision.INT8), gpu.memory_bytes
        if needed > has:
            raise device.GpuUnavailable(
                f"{gpu.name} has {has / 1e9:.1f} GB, and the model takes {needed / 1e9:.1f} GB in int8, its narrowest format"
            )
    except device.GpuUnavailable as why:
        if wanted is device.DeviceKind.CUDA:
            raise ConfigInvalid(f"NODE_DEVICE=cuda: {why}. Set it to auto or cpu to run without.") from None
        log.info("runs_on_cpu", reason=str(why))
        return None
    log.info("runs_on_gpu", gpu=gpu.name, memory_bytes=gpu.memory_bytes)
    return gpu
