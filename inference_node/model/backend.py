"""Which code runs a model: the GPU's kernels, the native step, the own forward in torch, or transformers' module for
families that none of them knows."""

from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from inference_node.contract.settings import KvPrecision, Precision
from inference_node.model import device, native_weights, weights
from inference_node.model.checkpoint import Checkpoint
from inference_node.model.errors import ModelUnsupported
from inference_node.model.foreign.store import PRECISIONS, ForeignStore
from inference_node.model.gpu import store as gpu_store
from inference_node.model.gpu.store import GpuStore
from inference_node.model.kv_cache import KvCache, KvLayout
from inference_node.model.native_weights import NativeStore
from inference_node.model.spec import ModelSpec, read_configs
from inference_node.model.weights import WeightStore

Store = WeightStore | ForeignStore | NativeStore | GpuStore
_ONE_STORE = (Precision.INT8, Precision.INT4)
# The largest prompt chunk that steps are captured for: above it the matrix units are busy, and steps only get longer.
GPU_STEP_TOKENS = 2048


def describe(folder: Path) -> ModelSpec:
    """Reads config.json; milliseconds for families that are known, some seconds for others.

    Raises ModelNotFound, ModelInvalid, ModelUnsupported.
    """
    config, generation = read_configs(folder)
    try:
        return ModelSpec.from_config(config, generation)
    except ModelUnsupported as reason:
        # transformers' modeling code takes 1.3 s and 120 MB to import, which other models need not pay.
        from inference_node.model.foreign import probe  # noqa: PLC0415

        return probe.describe(folder, config, generation, str(reason))


def why_not_native(spec: ModelSpec) -> str | None:
    """Why torch computes this model's steps; None when kernels of our own do."""
    if on_gpu(spec):
        return None
    return spec.foreign.reason if spec.foreign is not None else native_weights.why_not(spec)


def on_gpu(spec: ModelSpec) -> bool:
    """Whether this model's weights and steps are the GPU's; transformers' modules stay on the CPU."""
    return device.gpu_in_use() is not None and spec.foreign is None


def most_tokens(spec: ModelSpec) -> int | None:
    """Tokens that one step takes at most; None where nothing but its time bounds it."""
    return GPU_STEP_TOKENS if on_gpu(spec) else None


def supported_precisions(spec: ModelSpec) -> tuple[Precision, ...]:
    """What this machine can run this model in, widest first."""
    gpu = device.gpu_in_use()
    if gpu is not None and on_gpu(spec):
        return tuple(p for p in gpu_store.PRECISIONS if p is not Precision.FP8 or gpu.has_fp8)
    if why_not_native(spec) is None:
        return (Precision.FP32, *native_weights.PRECISIONS)
    here = weights.supported_precisions()
    return here if spec.foreign is None else tuple(p for p in here if p in PRECISIONS)


def supported_kv_precisions(spec: ModelSpec) -> tuple[KvPrecision, ...]:
    """Forms of the KV cache that some precision here can do with, widest first."""
    offered = supported_precisions(spec)
    return tuple(kv for kv in KvPrecision if any(why_not_kv(spec, precision, kv) is None for precision in offered))


def why_not_kv(spec: ModelSpec, precision: Precision, kv: KvPrecision) -> str | None:
    """Why steps in a precision that is supported cannot keep their keys and values so; None where they can."""
    if kv is KvPrecision.MODEL:
        return None
    if on_gpu(spec):
        if kv is not KvPrecision.FP8:
            return "GPUs keep narrow keys and values in fp8"
        gpu = device.gpu_in_use()
        return (
            None
            if gpu is not None and gpu.has_fp8
            else "this GPU has no e4m3 arithmetic: that begins with compute capability 8.9"
        )
    if kv is KvPrecision.FP8:
        return "CPUs have no fp8 arithmetic"
    if (reason := why_not_native(spec)) is not None:
        return f"it needs the native kernels, and {reason}"
    if not _is_native(spec, precision):
        readers = ", ".join(native_weights.PRECISIONS)
        return f"plain torch computes {precision} and keeps what it computes; the native kernels, which read {kv}, have {readers}"
    return None


def kv_dtype(precision: Precision, kv: KvPrecision) -> torch.dtype:
    """Of the entries of a cache for steps in that precision."""
    if kv is not KvPrecision.MODEL:
        return torch.int8 if kv is KvPrecision.INT8 else torch.float8_e4m3fn
    return weights.ARITHMETIC[precision if precision is Precision.FP32 else Precision.BF16].kv


def estimate_bytes(spec: ModelSpec, precision: Precision) -> int:
    """Memory that building a store takes at its peak: the GPU's, or the machine's."""
    if on_gpu(spec):
        return gpu_store.estimate_bytes(spec, precision)
    if _is_native(spec, precision):
        return native_weights.estimate_bytes(spec, precision)
    return weights.estimate_bytes(spec, precision)


def build(
    checkpoint: Checkpoint,
    spec: ModelSpec,
    precision: Precision,
    progress: Callable[[float], None] = lambda share: None,
    resident: Iterable[Store] = (),
) -> Store:
    """Reads, converts and packs all weights; seconds for a small model. `progress` may raise to give up midway.

    Of `resident` stores one may hold what is asked for already: int8 and int4 are two readings of the same planes.
    Raises ModelInvalid when the checkpoint does not fit the spec, ModelUnsupported when transformers' module does not compute
    rightly over paged keys and values, PrecisionUnsupported.
    """
    if on_gpu(spec):
        here = [other for other in resident if isinstance(other, GpuStore)]
        return gpu_store.build(checkpoint, spec, precision, progress, here)
    if _is_native(spec, precision):
        for other in resident:
            if isinstance(other, NativeStore) and {other.precision, precision} <= set(_ONE_STORE):
                return other.in_precision(spec, precision)
        return native_weights.build(checkpoint, spec, precision, progress)
    if spec.foreign is None:
        return weights.build(checkpoint, spec, precision, progress)
    from inference_node.model.foreign import check, module  # noqa: PLC0415 - see describe

    built = module.build(checkpoint.folder, spec, precision, progress)
    check.check(spec, built)
    progress(1.0)
    return built


def kv_form(store: Store, kv: KvPrecision) -> tuple[torch.dtype, KvLayout]:
    """Of the cache that a store's steps read and write."""
    dtype = torch.int8 if kv is KvPrecision.INT8 else store.arithmetic.kv
    return dtype, KvLayout.TILES if isinstance(store, NativeStore) else KvLayout.ROWS


def make_cache(
    spec: ModelSpec, store: Store, *, num_blocks: int, block_size: int, kv: KvPrecision = KvPrecision.MODEL
) -> KvCache:
    """An empty cache of the form that a store's steps read and write."""
    dtype, layout = kv_form(store, kv)
    return KvCache(
        num_layers=spec.num_layers,
        num_blocks=num_blocks,
        block_size=block_size,
        num_heads=spec.num_key_heads,
        head_dim=spec.head_dim,
        dtype=dtype,
        layout=layout,
    )


def _is_native(spec: ModelSpec, precision: Precision) -> bool:
    return precision in native_weights.PRECISIONS and why_not_native(spec) is None
