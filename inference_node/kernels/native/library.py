"""The library's functions and records, as ctypes sees them: csrc/api.cpp is the other side."""

import ctypes
import functools
import platform
import sys
from collections.abc import Sequence
from ctypes import POINTER, Structure, c_char_p, c_double, c_int, c_int64, c_void_p

from inference_node.errors import NodeError
from inference_node.kernels.native.build import NativeUnavailable, build

_AVX512, _AMX = 1, 2
SITES = 4


class KernelError(NodeError):
    """The library refused a call: memory, or a bug of ours."""


class LinearArgs(Structure):
    _fields_ = [
        *((name, c_int64) for name in ("quantized", "inputs", "outputs")),
        *((name, c_void_p) for name in ("weights", "low", "factor", "zero", "column", "bias")),
    ]


class LayerArgs(Structure):
    _fields_ = [
        *((name, c_void_p) for name in ("attention_norm", "mlp_norm", "attention_out_norm", "mlp_out_norm")),
        *((name, c_void_p) for name in ("q_norm", "k_norm", "turns")),
        ("window", c_int64),
        *((name, LinearArgs) for name in ("qkv", "output", "gate_up", "down")),
        ("norms", c_void_p * SITES),
    ]


class ModelArgs(Structure):
    _fields_ = [
        *((name, c_int64) for name in ("hidden", "heads", "key_heads", "dim", "middle", "vocabulary", "num_layers")),
        ("gelu", c_int64),
        *((name, c_double) for name in ("eps", "attention_scale", "embedding_scale")),
        *((name, c_void_p) for name in ("norm", "embedding")),
        ("head", LinearArgs),
        ("layers", POINTER(LayerArgs)),
    ]


class StepArgs(Structure):
    _fields_ = [
        *((name, c_int64) for name in ("rows", "sampled_rows", "num_runs")),
        *((name, c_void_p) for name in ("tokens", "positions", "sampled", "runs", "tables", "pages")),
        *((name, c_int64) for name in ("layer_stride", "block_size", "narrow")),
        *((name, c_void_p) for name in ("logits", "best", "best_logit", "cutoffs", "kept", "capture")),
    ]


class KvConversionArgs(Structure):
    _fields_ = [
        *((name, c_void_p) for name in ("source", "target")),
        *((name, c_int64) for name in ("source_stride", "target_stride")),
        *((name, c_int64) for name in ("layers", "block_size", "key_heads", "dim", "narrow")),
        ("blocks", c_void_p),
        ("count", c_int64),
    ]


class PackedArgs(Structure):
    _fields_ = [
        ("high", c_void_p),
        ("low", c_void_p),
        ("factor", c_void_p * 2),
        ("zero", c_void_p * 2),
        ("column", c_void_p * 2),
    ]


class Library:
    """The loaded library. Its calls let other Python threads run."""

    def __init__(self, path: str) -> None:
        self._dll = ctypes.CDLL(path)
        signatures: dict[str, tuple[object, list[object]]] = {
            "tt_last_error": (c_char_p, []),
            "tt_features": (c_int, []),
            "tt_engine_new": (c_void_p, [c_int, c_int, c_double]),
            "tt_engine_free": (None, [c_void_p]),
            "tt_engine_pin": (c_int, [c_void_p, POINTER(c_int), c_int]),
            "tt_model_new": (c_void_p, [POINTER(ModelArgs)]),
            "tt_model_free": (None, [c_void_p]),
            "tt_step": (c_int, [c_void_p, c_void_p, POINTER(StepArgs)]),
            "tt_convert_kv": (c_int, [c_void_p, POINTER(KvConversionArgs)]),
            "tt_pack_bf16": (c_int, [c_void_p, c_void_p, c_int, c_int, c_int, c_int, c_void_p, c_void_p]),
            "tt_pack_q": (c_int, [c_void_p, c_void_p, c_int, c_int, c_int, c_int, c_void_p, POINTER(PackedArgs)]),
        }
        for name, (result, arguments) in signatures.items():
            function = getattr(self._dll, name)
            function.restype, function.argtypes = result, arguments

    @property
    def has_amx(self) -> bool:
        return bool(self._dll.tt_features() & _AMX)

    @property
    def is_usable(self) -> bool:
        return bool(self._dll.tt_features() & _AVX512)

    def call(self, name: str, *arguments: object) -> None:
        """A function that answers 0 or says why not. Raises KernelError."""
        if getattr(self._dll, name)(*arguments) != 0:
            raise KernelError(f"{name}: {self._dll.tt_last_error().decode()}")

    def make(self, name: str, *arguments: object) -> int:
        """A function that answers with a new object. Raises KernelError."""
        made: int | None = getattr(self._dll, name)(*arguments)
        if not made:
            raise KernelError(f"{name}: {self._dll.tt_last_error().decode()}")
        return made

    def pin(self, engine: int, cpus: Sequence[int]) -> int:
        """Binds an engine's threads, but for the caller's, to a CPU each, from the second on; how many the system let it."""
        bound: int = self._dll.tt_engine_pin(engine, (c_int * len(cpus))(*cpus), len(cpus))
        return bound

    def free(self, name: str, made: int) -> None:
        getattr(self._dll, name)(made)


@functools.cache
def load() -> Library | NativeUnavailable:
    """The library, built first if need be, or why this machine cannot have it. Decided once in a process."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return NativeUnavailable(f"the kernels are for Linux on x86-64, this is {sys.platform} on {platform.machine()}")
    try:
        library = Library(str(build()))
    except NativeUnavailable as error:
        return error
    except OSError as error:
        return NativeUnavailable(f"the kernels were built but do not load: {error}")
    if not library.is_usable:
        return NativeUnavailable("this CPU lacks AVX-512 with VNNI and VBMI2, which the kernels are written for")
    return library
