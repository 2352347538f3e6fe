"""From a model folder to an engine ready to step: reads, prepares the first precision, sizes the cache, warms up and probes."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import structlog
from transformers import AutoTokenizer

from inference_node.config import ConfigInvalid, NodeConfig
from inference_node.contract.messages import NodeCapabilities, NodeHardware
from inference_node.contract.settings import KNOBS, EngineSettings, Precision
from inference_node.engine import hardware
from inference_node.engine.auto_precision import candidates, choose_precision
from inference_node.engine.cache_size import cache_tokens, kv_room_bytes, with_kv
from inference_node.engine.engine import Change, Engine
from inference_node.engine.guard import QualityGuard
from inference_node.engine.hardware_table import hardware_class
from inference_node.engine.kept_steps import Identity
from inference_node.engine.listener import EngineListener
from inference_node.engine.placement import Placement, place_here
from inference_node.engine.rates import known_rates
from inference_node.engine.reconfigure import Reconfigurer
from inference_node.engine.step_learner import StepLearner
from inference_node.engine.step_model import StepModel
from inference_node.engine.step_probe import probe
from inference_node.engine.work import WorkModel
from inference_node.model import device
from inference_node.model.backend import (
    build,
    describe,
    estimate_bytes,
    most_tokens,
    supported_kv_precisions,
    supported_precisions,
    why_not_native,
)
from inference_node.model.checkpoint import Checkpoint
from inference_node.model.errors import ModelInvalid
from inference_node.model.runners import make_runner
from inference_node.model.spec import ModelSpec
from inference_node.pruning.text import MOST_TOKENS, TEXT

log = structlog.get_logger("engine")

Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Loaded:
    """All that an AsyncEngine is made of."""

    engine: Engine
    reconfigurer: Reconfigurer
    tokenizer: Any
    spec: ModelSpec
    capabilities: NodeCapabilities
    hardware: NodeHardware
    placement: Placement
    learner: StepLearner
    guard: QualityGuard


def load(config: NodeConfig, kept: EngineSettings | None, listener: EngineListener, progress: Progress) -> Loaded:
    """Seconds of work; call it from a thread that may block.

    kept: settings of an earlier run; without, the configuration's.

    Raises ModelNotFound, ModelInvalid, ModelUnsupported, ConfigInvalid, SettingsRefused.
    """
    progress("reading the model", 0.0)
    settings = kept or config.initial_settings()
    spec = describe(config.model)
    device.use(_gpu_for(config, spec))
    if spec.foreign is not None:
        log.warning("model_runs_in_transformers_module", family=spec.family, reason=spec.foreign.reason)
    elif (reason := why_not_native(spec)) is not None:
        log.warning("model_runs_in_plain_torch", family=spec.family, reason=reason)
    checkpoint = Checkpoint.open(config.model)
    tokenizer = load_tokenizer(config)
    placement = place_here(config.cpu_affinity, config.threads)
    placement.enter()
    hardware.use_threads(placement.threads)
    machine = hardware.describe(placement.threads)
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
    machine = hardware.describe(placement.threads, rates)
    hardware.keep_freed_memory()

    max_model_len = min(config.max_model_len, spec.max_positions)
    kv_room = kv_room_bytes(spec, settings.precision)
    num_blocks = cache_tokens(config, spec, max_model_len, kv_room, settings.kv_precision) // config.block_size
    capabilities = NodeCapabilities(
        precisions=supported_precisions(spec),
        kv_precisions=supported_kv_precisions(spec),
        max_batch_size=int(KNOBS["max_batch_size"].maximum or 1),
        max_batched_tokens=most_tokens(spec) or int(KNOBS["max_batched_tokens"].maximum or 64),
        max_model_len=max_model_len,
        kv_tokens=num_blocks * config.block_size,
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
    )
    reconfigurer.check(settings)
    progress(f"preparing {settings.precision} weights", 0.1)
    store = build(
        checkpoint,
        spec,
        settings.precision,
        lambda share: progress(f"preparing {settings.precision} weights", 0.1 + 0.6 * share),
    )
    reconfigurer.adopt(store)
    runner = make_runner(
        spec,
        store,
        num_blocks=num_blocks,
        block_size=config.block_size,
        max_model_len=max_model_len,
        kv=settings.kv_precision,
    )
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
    engine = Engine(runner, settings, listener, times, work=WorkModel.of(spec))
    if settings.pruning_threshold > 0:
        reconfigurer.prepare(settings, runner, settings.precision, lambda: True)
        engine.apply(Change(settings, reconfigurer.numerics(settings), None))
    progress("ready", 1.0)
    return Loaded(engine, reconfigurer, tokenizer, spec, capabilities, machine, placement, learner, guard)


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
