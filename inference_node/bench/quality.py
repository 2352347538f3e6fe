"""`trimtab bench quality`: what each precision, KV cache and pruning level costs in answers. Asserts nothing."""

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from inference_node.bench.figures import machine, versions
from inference_node.config import NodeConfig
from inference_node.contract.messages import NodeCapabilities
from inference_node.contract.quality import QualityRecord
from inference_node.contract.settings import KNOBS, EngineSettings, KvPrecision, Precision
from inference_node.engine.guard import QualityGuard
from inference_node.engine.load import load_tokenizer
from inference_node.engine.reconfigure import Reconfigurer
from inference_node.errors import Invalid
from inference_node.model.backend import build, describe, supported_precisions, why_not_kv
from inference_node.model.checkpoint import Checkpoint
from inference_node.model.runner import ModelRunner
from inference_node.pruning.text import MOST_TOKENS, TEXT
from inference_node.quality.laboratory import REFERENCE

Progress = Callable[[str], None]
_BLOCK_SIZE, _LONGEST = 32, 1024
_MOST_PRUNING = KNOBS["pruning_threshold"].maximum or 0.0


@dataclass(frozen=True, slots=True)
class QualityOptions:
    """A ceiling of None is the node's default; precisions of None are all that this machine has but fp32.

    With `keep`, records go to a node's data folder, where its guard reads them at its next start; calibration is read from there
    and kept there in either case.
    """

    model: Path
    data_dir: Path
    precisions: tuple[Precision, ...] | None = None
    prunings: tuple[float, ...] = (0.0, 0.25, 0.4)
    kv_precisions: tuple[KvPrecision, ...] = (KvPrecision.MODEL,)
    keep: bool = False
    threads: int = 1  # of plain torch; the native step measures on one
    max_perplexity_ratio: float | None = None
    max_kl: float | None = None


def run(options: QualityOptions, progress: Progress = lambda line: None) -> dict[str, Any]:
    """Measure; the whole report as plain values. Raises NodeError: what is wrong with model or options."""
    torch.set_num_threads(options.threads)
    given = {"max_perplexity_ratio": options.max_perplexity_ratio, "max_kl": options.max_kl}
    ceiling: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    config = NodeConfig(model=options.model, data_dir=options.data_dir, **ceiling)
    spec, checkpoint, tokenizer = describe(config.model), Checkpoint.open(config.model), load_tokenizer(config)
    available = supported_precisions(spec)
    if missing := [p.value for p in options.precisions or () if p not in available]:
        raise Invalid(f"{', '.join(missing)}: not on this machine with this model; there are {', '.join(available)}")
    for kv in options.kv_precisions:
        if reasons := [why for p in _precisions(options, available) if (why := why_not_kv(spec, p, kv)) is not None]:
            raise Invalid(f"KV cache in {kv}: {reasons[0]}")
    longest = min(_LONGEST, spec.max_positions)
    capabilities = NodeCapabilities(
        precisions=available, max_batch_size=1, max_batched_tokens=longest, max_model_len=longest, kv_tokens=longest
    )

    def encode(text: str) -> list[int]:
        tokens: list[int] = tokenizer(text)["input_ids"]
        return tokens

    reconfigurer = Reconfigurer(
        checkpoint,
        spec,
        capabilities,
        calibration_dir=config.data_dir / "calibration",
        calibration_tokens=encode(TEXT)[:MOST_TOKENS],
    )
    progress(f"preparing {REFERENCE} weights")
    store = build(checkpoint, spec, REFERENCE)
    reconfigurer.adopt(store)
    runner = ModelRunner(spec, store, num_blocks=1, block_size=_BLOCK_SIZE, max_model_len=longest)
    with tempfile.TemporaryDirectory(prefix="trimtab-quality-") as scratch:
        guard = QualityGuard.of(
            config,
            runner,
            checkpoint.fingerprint,
            encode,
            longest=longest,
            folder=None if options.keep else Path(scratch),
        )
        results = []
        for settings in _levels(options, available, prunable=spec.foreign is None):
            name = f"{settings.precision}, KV {settings.kv_precision}, pruned by {settings.pruning_threshold:g}"
            progress(f"{name}: preparing")
            reconfigurer.prepare(settings, runner, REFERENCE, lambda: True)
            numerics = reconfigurer.numerics(settings)
            teller = _Teller(name, progress)
            record = guard.measure(settings, numerics, lambda: store, teller)
            results.append(_described(record, guard.judge(settings).standing.value))
    return {
        "benchmark": "quality",
        "model": config.model_name,
        "hardware": machine(),
        "versions": versions(),
        "ceiling": asdict(guard.ceiling),
        "kept_in": str(config.data_dir / "quality") if options.keep else None,
        "results": results,
    }


def _levels(options: QualityOptions, available: tuple[Precision, ...], *, prunable: bool) -> list[EngineSettings]:
    """Raises Invalid for a pruning level that there cannot be."""
    if bad := [level for level in options.prunings if not 0 <= level <= _MOST_PRUNING]:
        raise Invalid(f"pruning {bad[0]:g} is outside 0 to {_MOST_PRUNING:g}")
    levels = sorted({0.0, *options.prunings}) if prunable else [0.0]
    return [
        EngineSettings(precision=precision, kv_precision=kv, pruning_threshold=level)
        for precision in _precisions(options, available)
        for kv in options.kv_precisions
        for level in levels
    ]


def _precisions(options: QualityOptions, available: tuple[Precision, ...]) -> tuple[Precision, ...]:
    return options.precisions or tuple(p for p in available if p is not Precision.FP32)


def _described(record: QualityRecord, standing: str) -> dict[str, Any]:
    return record.model_dump(mode="json") | {"standing": standing}


class _Teller:
    """A line at each quarter."""

    def __init__(self, name: str, progress: Progress) -> None:
        self._name, self._progress, self._told = name, progress, 0

    def __call__(self, share: float) -> None:
        if (quarter := int(4 * share)) > self._told:
            self._told = quarter
            self._progress(f"{self._name}: {25 * quarter} % measured")
