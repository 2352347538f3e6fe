"""Tries how to cut up one-row products, on the four matrices of Llama 3 8B: `python -m inference_node.bench.gpu.tune`.

What it finds goes into TUNED of `kernels.gpu.gemv` and `planes_dot` by hand; nothing is tuned while serving.
"""

import argparse
import concurrent.futures
import itertools
import json
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from inference_node.bench.gpu.limits import read_bytes_per_s, time_s
from inference_node.kernels.gpu import attention
from inference_node.kernels.gpu.gemv import GemvScratch, Tuning, gemv, gemv_narrow
from inference_node.kernels.gpu.planes import Planes, pack
from inference_node.kernels.gpu.planes_dot import TUNED, DotTuning, planes_dot

SHAPES = {"qkv": (4096, 6144), "output": (4096, 4096), "gate_up": (4096, 28_672), "down": (14_336, 4096)}
# More than the L2 cache holds, so that each product reads from memory.
_COPIES_BYTES = 300 << 20
# tokens of a step, warps, stages
_FEW_TILES = (
    (64, 4, 3),
    (128, 4, 2),
    (128, 4, 3),
    (128, 8, 3),
    (64, 2, 3),
    (64, 8, 3),
    (32, 4, 4),
    (32, 2, 4),
    (64, 4, 5),
)
_FEW = (
    (8, 16, 4, 4), (8, 16, 3, 4), (8, 32, 2, 4), (8, 32, 3, 4), (16, 16, 3, 4), (4, 32, 3, 4), (8, 64, 2, 4), (8, 32, 3, 8),
    (4, 16, 4, 2), (8, 8, 5, 2), (4, 64, 1, 4), (2, 64, 1, 2), (8, 64, 1, 8), (16, 64, 1, 8),
)  # fmt: skip


def candidates(kind: str) -> list[Tuning] | list[DotTuning]:
    if kind == "fp8":
        tried = itertools.product((4, 8, 16), (512, 1024, 2048), (1,), (3, 5), (4,), (4, 8))
    elif kind == "bf16":
        tried = itertools.product((128, 256, 512), (8, 16), (2, 4), (2, 3, 4), (4, 8), (4,))
    else:
        cut = itertools.product((4, 8, 16), (16, 32, 64), (2, 3, 4, 5), (2, 4, 8))
        dots = [DotTuning(*one) for one in cut]
        return [t for t in dots if 4 <= t.columns * t.groups * 8 / (32 * t.warps) <= 16]
    found = [Tuning(*one) for one in tried]
    if kind == "bf16":
        found = [t for t in found if 8192 <= t.columns * t.depth * t.unroll * t.stages * 2 <= 70_000]
    else:
        found = [t for t in found if t.columns * t.depth <= 16_384]
    return found


def call(kind: str, x: Tensor, weight: Any, scratch: GemvScratch, tuning: Tuning | DotTuning) -> Tensor:
    if isinstance(tuning, DotTuning):
        return planes_dot(x, weight, bits=4 if kind == "int4" else 8, tuning=tuning)
    if kind == "fp8":
        return gemv_narrow(x, *weight, tuning=tuning)
    return gemv(x, weight, scratch, tuning=tuning)


def weights_for(kind: str, inputs: int, outputs: int, copies: int) -> tuple[list[Any], int]:
    """Copies of a matrix, and the bytes of one."""
    made: list[Any] = []
    for _ in range(copies):
        if kind == "fp8":
            weight = torch.randn(outputs, inputs, device="cuda").to(torch.float8_e4m3fn)
            made.append((weight, torch.ones(outputs, device="cuda")))
        elif kind == "bf16":
            made.append(torch.randn(inputs, outputs, device="cuda", dtype=torch.bfloat16))
        else:
            made.append(pack(torch.randn(outputs, inputs, device="cuda", dtype=torch.bfloat16)))
    first = made[0]
    if isinstance(first, Planes):
        return made, first.nbytes(4 if kind == "int4" else 8)
    return made, first.nbytes if isinstance(first, Tensor) else first[0].nbytes


def compile_all(job: tuple[str, list[Tuning] | list[DotTuning]]) -> None:
    kind, tunings = job
    scratch = GemvScratch(torch.device("cuda"), 28_672, 132)
    for inputs, outputs in SHAPES.values():
        weights, _ = weights_for(kind, inputs, outputs, 1)
        x = torch.randn(1, inputs, device="cuda", dtype=torch.bfloat16)
        for tuning in tunings:
            try:
                call(kind, x, weights[0], scratch, tuning)
                torch.cuda.synchronize()
            except Exception as error:  # noqa: BLE001 - a combination that does not fit is no result
                print(kind, tuning, type(error).__name__, str(error)[:100])


def settle(read: float, bits: int) -> dict[str, Any]:
    """The fastest of a few ways to cut up a product in planes, on two matrices; puts it into TUNED for the rest of this run."""
    tried = [DotTuning(*one) for one in _FEW]
    totals = dict.fromkeys(tried, 0.0)
    bound = 0.0
    for name in ("output", "gate_up"):
        inputs, outputs = SHAPES[name]
        _, nbytes = weights_for(f"int{bits}", inputs, outputs, 1)
        weights, _ = weights_for(f"int{bits}", inputs, outputs, max(2, -(-_COPIES_BYTES // nbytes)))
        bound += nbytes / read
        for tuning in tried:
            row = _time(f"int{bits}", name, weights, nbytes, read, tuning)
            totals[tuning] += row["us"] if row else float("inf")
    best = min(tried, key=totals.__getitem__)
    TUNED[bits] = best
    figures = {
        str(t).split("Tuning")[1]: round(total, 1) for t, total in sorted(totals.items(), key=lambda item: item[1])
    }
    return {
        "bits": bits,
        "chosen": str(best).split("Tuning")[1],
        "share": round(bound * 1e6 / totals[best], 3),
        "us": figures,
    }


def settle_narrow_pages(read: float, rows: int = 128, context: int = 1024) -> dict[str, Any]:
    """The same for decode attention over e4m3 pages: 32 heads on 8, of 128 channels."""
    heads, key_heads, dim, size = 32, 8, 128, 32
    blocks = rows * context // size
    pages = torch.randn(blocks, 2, key_heads, size, dim, device="cuda", dtype=torch.bfloat16).to(torch.float8_e4m3fn)
    scales = torch.ones(blocks, 2, key_heads, size, device="cuda")
    tables = torch.randperm(blocks, device="cuda", dtype=torch.int32).view(rows, -1)
    q = torch.randn(rows, heads, dim, device="cuda", dtype=torch.float16)
    runs = torch.arange(rows, device="cuda", dtype=torch.int32)
    positions, real = torch.full_like(runs, context - 1), torch.full_like(runs[:1], rows)
    tau, kept = torch.zeros(1, device="cuda"), torch.zeros_like(real)
    totals: dict[attention.DecodeTuning, float] = {}
    for tuning in (attention.DecodeTuning(*one) for one in _FEW_TILES):
        scratch = attention.DecodeScratch(rows, heads, key_heads, dim, 1, pages.device)
        try:
            totals[tuning] = _replayed(
                lambda tuning=tuning, scratch=scratch: attention.decode_attention(  # type: ignore[misc]
                    q, pages, scales, positions, runs, tables, scratch, tau, kept, real, tuning=tuning
                )
            )
        except Exception as error:  # noqa: BLE001 - see above
            print("attention", tuning, type(error).__name__, str(error)[:100])
    best = min(totals, key=totals.__getitem__)
    attention.TUNED_NARROW = best
    figures = {
        str(t).split("Tuning")[1]: round(total * 1e6, 1)
        for t, total in sorted(totals.items(), key=lambda item: item[1])
    }
    share = (pages.numel() + 4 * scales.numel()) / read / totals[best]
    return {
        "pages": "fp8",
        "rows": rows,
        "chosen": str(best).split("Tuning")[1],
        "share": round(share, 3),
        "us": figures,
    }


def precompile(part: int, parts: int) -> None:
    """Fills Triton's cache with what `settle` tries, so that several processes do it at once."""
    for kind in ("int4", "int8"):
        compile_all((kind, [DotTuning(*one) for one in _FEW[part::parts]]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", default="bf16,fp8,int8,int4")
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    kinds = options.kinds.split(",")
    jobs = [(kind, candidates(kind)[start::8]) for kind in kinds for start in range(8)]
    with concurrent.futures.ProcessPoolExecutor(14, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(compile_all, jobs))
    read = read_bytes_per_s()
    results = []
    for kind in kinds:
        for name, (inputs, outputs) in SHAPES.items():
            _, nbytes = weights_for(kind, inputs, outputs, 1)
            weights, _ = weights_for(kind, inputs, outputs, max(2, -(-_COPIES_BYTES // nbytes)))
            results += [row for tuning in candidates(kind) if (row := _time(kind, name, weights, nbytes, read, tuning))]
            del weights
            torch.cuda.empty_cache()
        _print_best([row for row in results if row["kind"] == kind])
    if options.out:
        options.out.write_text(json.dumps(results))


def _time(
    kind: str, name: str, weights: list[Any], nbytes: int, read: float, tuning: Tuning | DotTuning
) -> dict[str, Any] | None:
    inputs, outputs = SHAPES[name]
    scratch = GemvScratch(torch.device("cuda"), outputs, 132)
    x = torch.randn(1, inputs, device="cuda", dtype=torch.bfloat16)
    pruned = torch.where(torch.rand(x.shape, device="cuda") < 0.4, torch.zeros_like(x), x)
    row: dict[str, Any] = {"kind": kind, "matrix": name, "tuning": str(tuning).split("Tuning")[1]}
    for label, rows in (("us", x), ("pruned_us", pruned)):
        try:
            taken = _replayed(lambda rows=rows: [call(kind, rows, weight, scratch, tuning) for weight in weights])  # type: ignore[misc]
        except Exception:  # noqa: BLE001 - see above
            return None
        row[label] = round(taken / len(weights) * 1e6, 2)
    row["share"] = round(nbytes / read / row["us"] * 1e6, 3)
    return row


def _replayed(launch: Callable[[], object]) -> float:
    launch()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        launch()
    return time_s(graph.replay, repeats=7)


def _print_best(rows: list[dict[str, Any]]) -> None:
    for name in SHAPES:
        for row in sorted((r for r in rows if r["matrix"] == name), key=lambda r: r["us"])[:4]:
            print(json.dumps(row), flush=True)
    totals: dict[str, list[float]] = {}
    for row in rows:
        totals.setdefault(row["tuning"], []).append(row["us"])
    best = sorted((sum(taken), tuning) for tuning, taken in totals.items() if len(taken) == len(SHAPES))[:5]
    for taken, tuning in best:
        print(f"{rows[0]['kind']}: layer {taken:.1f} us with {tuning}", flush=True)


if __name__ == "__main__":
    main()
