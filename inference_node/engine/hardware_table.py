"""Machines from new to old, by what their instruction sets make fast: which formats are worth trying where.

The table only names candidates, best first; the probe and the step model say what is true of this machine. Sources: "Intel
Architecture Instruction Set Extensions Programming Reference" (AMX, AVX512_BF16, AVX-VNNI) and "Arm Architecture Reference
Manual" (I8MM, BF16, DotProd); NVIDIA, "CUDA C++ Programming Guide", section 'Compute Capabilities'.
"""

from collections.abc import Collection
from dataclasses import dataclass

from inference_node.contract.settings import KvPrecision, Precision

BF16, FP32, INT8, INT4, FP8 = Precision.BF16, Precision.FP32, Precision.INT8, Precision.INT4, Precision.FP8


@dataclass(frozen=True, slots=True)
class HardwareClass:
    """`needs` are features in Linux' words, all of them. Candidates for batches of a few rows, where bytes decide, and for large
    batches and prompts, where arithmetic does; for the KV cache likewise."""

    name: str
    needs: frozenset[str]
    small_batch: tuple[Precision, ...]
    large_batch: tuple[Precision, ...]
    kv: tuple[KvPrecision, ...]
    note: str


def _class(
    name: str,
    needs: str,
    small: tuple[Precision, ...],
    large: tuple[Precision, ...],
    note: str,
    *,
    kv: tuple[KvPrecision, ...] = (KvPrecision.MODEL,),
) -> HardwareClass:
    return HardwareClass(name, frozenset(needs.split()), small, large, kv, note)


_BOTH_KV = (KvPrecision.MODEL, KvPrecision.INT8)
_BOTH_KV_ON_GPU = (KvPrecision.MODEL, KvPrecision.FP8)
# The first whose needs are met is the machine's class.
TABLE: tuple[HardwareClass, ...] = (
    # Measured on an H100: e4m3 beats int8 at every batch, int4 beats it at one row and two (docs/gpu-notes.md).
    _class("cuda-hopper", "cuda sm90", (FP8, INT4, BF16), (FP8, BF16), "e4m3 products at twice the rate of bf16",
           kv=_BOTH_KV_ON_GPU),
    _class("cuda-fp8", "cuda fp8", (FP8, INT4, BF16), (FP8, BF16), "e4m3 products, and little memory bandwidth for them",
           kv=_BOTH_KV_ON_GPU),
    _class("cuda", "cuda", (INT8, INT4, BF16), (BF16,), "no e4m3: narrow weights become bf16 on the way to the matrix units"),
    _class("x86-amx", "amx_tile amx_bf16 amx_int8 avx512_vnni", (INT4, INT8, BF16), (BF16, INT8),
           "matrix tiles: prompts and large batches multiply in bf16 or int8 alike; decode is bound by bytes", kv=_BOTH_KV),
    _class("x86-avx512-bf16", "avx512_bf16 avx512_vnni", (INT4, INT8, BF16), (INT8, BF16),
           "int8 products are twice as fast as bf16 ones", kv=_BOTH_KV),
    _class("x86-avx512-vnni", "avx512_vnni", (INT4, INT8), (INT8, FP32),
           "no bf16 arithmetic: it would be done in fp32", kv=_BOTH_KV),
    _class("x86-avx512", "avx512f avx512bw avx512vl", (INT8, FP32), (FP32, INT8),
           "int8 products take three instructions and gain bytes only"),
    _class("x86-avx-vnni", "avx2 fma avx_vnni", (INT8, FP32), (INT8, FP32),
           "client processors: VNNI on 256 bits, no AVX-512"),
    _class("x86-avx2", "avx2 fma", (INT8, FP32), (FP32, INT8), "int8 halves the bytes of bf16 and multiplies no faster"),
    _class("arm-i8mm", "asimd i8mm bf16", (INT8, BF16), (INT8, BF16), "8-bit and bf16 matrix instructions"),
    _class("arm-dotprod", "asimd asimddp", (INT8, FP32), (INT8, FP32), "8-bit dot products, no bf16"),
    _class("arm", "asimd", (FP32,), (FP32,), "no instruction for narrow formats"),
    _class("other", "", (FP32,), (FP32,), "nothing is known to be fast here"),
)  # fmt: skip


def hardware_class(features: Collection[str]) -> HardwareClass:
    """The class of a machine with these features."""
    there = frozenset(features)
    return next(each for each in TABLE if each.needs <= there)
