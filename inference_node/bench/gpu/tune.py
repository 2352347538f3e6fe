"""Tries how to cut kernels up on this card, and writes its table: `python -m inference_node.bench.gpu.tune --out FILE`.

On the four matrices of Llama 3 8B, one row, and on decode attention of its heads. The file belongs into `kernels/gpu/tables`;
nothing is tuned while serving.
"""

import argparse
import concurrent.futures
import itertools
import json
import multiprocessing
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from inference_node.bench.gpu.limits import read_bytes_per_s, time_s
from inference_node.kernels.gpu import attention
from inference_node.kernels.gpu.dense import dense
from inference_node.kernels.gpu.gemv import gemv_narrow
from inference_node.kernels.gpu.in_bytes import as_bytes
from inference_node.kernels.gpu.listed import listed
from inference_node.kernels.gpu.planes import Planes
from inference_node.kernels.gpu.planes_pack import pack_on_device
from inference_node.kernels.gpu.planes_row import planes_row
from inference_node.kernels.gpu.tuned import AttentionTuning, DenseTuning, RowTuning, multiprocessors

SHAPES = {"qkv": (4096, 6144), "output": (4096, 4096), "gate_up": (4096, 28_672), "down": (14_336, 4096)}
# Of each table's entry, the matrices that are cut up by it.
_ENTRIES = {
    **dict.fromkeys(("fp8", "int8", "int4"), ("qkv", "output", "gate_up")),
    **{f"{kind}, wide": ("down",) for kind in ("fp8", "int8", "int4")},
    "dense, small": ("qkv", "output"),
    "dense, many inputs": ("down",),
    "dense, many outputs": ("gate_up",),
    "dense, many inputs, skipping": ("down",),
    "dense, many outputs, skipping": ("gate_up",),
    "dense, listed": ("qkv", "output"),
}
# More than the L2 cache holds, so that each product reads from memory.
_COPIES_BYTES = 300 << 20
_CONTEXT, _HEADS, _KEY_HEADS, _DIM, _BLOCK = 1024, 32, 8, 128, 32
# Of the inputs of a pruned row, those that count.
_KEPT = 0.6

Cut = RowTuning | DenseTuning


def candidates(entry: str) -> list[Cut]:
    if entry.startswith("dense"):
        # Parts are added up by one program, but for the gate: more than these cost it more than they bring.
        parts = (1, 2) if "many outputs" in entry else (4, 8)
        sizes = ((64, 64), (64, 128), (128, 32), (128, 64), (256, 64))
        return [
            DenseTuning(*wide, stages, warps, each, 64)
            for wide, stages, warps, each in itertools.product(sizes, (3, 4, 5), (4, 8), parts)
        ]
    # Outputs at a time, warps, and how many such programs a multiprocessor has room for.
    if entry == "fp8":
        rows: tuple[tuple[int, int, tuple[int, ...]], ...] = (
            (1, 1, (8, 10, 12)),
            (1, 2, (4, 6, 8)),
            (2, 2, (3, 4, 6)),
            (4, 4, (2, 3, 4)),
        )
    elif entry == "fp8, wide":
        rows = ((1, 4, (2, 3)), (1, 8, (2, 3)), (2, 8, (1, 2)))
    elif "wide" in entry:
        rows = ((1, 4, (3, 4, 5, 6)), (1, 2, (4, 6, 8)), (2, 4, (2, 3, 4)))
    else:
        rows = ((1, 1, (8, 10, 12, 16)), (2, 1, (6, 8, 12)), (2, 2, (4, 6, 8)), (4, 2, (4, 6)))
    return [
        RowTuning(columns, stages, warps, each, ahead)
        for columns, warps, programs in rows
        for stages, each, ahead in itertools.product((2, 3, 4, 6), programs, (8, 16) if entry == "fp8" else (8,))
    ]


def kernels(entry: str) -> list[Cut]:
    """One of those that differ in how many programs run alone, which is no matter of compiling."""
    cuts = candidates(entry)
    return list(
        {str(cut) if not isinstance(cut, RowTuning) else str(replace(cut, programs=0)): cut for cut in cuts}.values()
    )


def weights_for(entry: str, name: str, copies: int) -> list[Any]:
    inputs, outputs = SHAPES[name]
    made: list[Any] = []
    for _ in range(copies):
        if entry.startswith("fp8"):
            weight = torch.randn(outputs, inputs, device="cuda").to(torch.float8_e4m3fn)
            made.append((weight, torch.ones(outputs, device="cuda")))
        elif entry.startswith("dense"):
            made.append(torch.randn(inputs, outputs, device="cuda", dtype=torch.bfloat16))
        else:
            made.append(pack_on_device(torch.randn(outputs, inputs, device="cuda", dtype=torch.bfloat16)))
    return made


def bytes_of(entry: str, weight: Any) -> int:
    if isinstance(weight, Planes):
        return weight.nbytes(int(entry[3]))
    return int(weight.nbytes if isinstance(weight, Tensor) else weight[0].nbytes)


def skips(entry: str) -> bool:
    return entry.endswith(("skipping", "listed"))


def call(entry: str, x: Any, weight: Any, cut: Cut) -> Tensor:
    if isinstance(cut, DenseTuning):
        return (
            listed(x, weight, tuning=cut)
            if entry == "dense, listed"
            else dense(x, weight, skips=skips(entry), tuning=cut)
        )
    if entry.startswith("fp8"):
        return gemv_narrow(x, *weight, tuning=cut)
    return planes_row(x, weight, bits=int(entry[3]), tuning=cut)


def compile_all(job: tuple[str, list[Cut]]) -> None:
    """Fills Triton's cache, so that several processes do it at once."""
    entry, cuts = job
    for name in _ENTRIES[entry]:
        (weight,) = weights_for(entry, name, 1)
        x = torch.randn(1, SHAPES[name][0], device="cuda", dtype=torch.bfloat16)
        given = as_bytes(x) if entry.startswith("int") else x
        for cut in cuts:
            try:
                call(entry, given, weight, cut)
                torch.cuda.synchronize()
            except Exception as error:  # noqa: BLE001 - a combination that does not fit is no result
                print(entry, cut, type(error).__name__, str(error)[:100])


def best_of(entry: str, read: float, tell: Callable[[dict[str, Any]], None]) -> Cut:
    """The fastest over all matrices of an entry, by the sum of their times; of those that skip, with a row that is pruned."""
    totals = dict.fromkeys(candidates(entry), 0.0)
    bound = 0.0
    for name in _ENTRIES[entry]:
        inputs = SHAPES[name][0]
        (one,) = weights_for(entry, name, 1)
        nbytes = bytes_of(entry, one)
        weights = [one, *weights_for(entry, name, max(1, -(-_COPIES_BYTES // nbytes)))]
        bound += nbytes / read * 1e6
        x = torch.randn(1, inputs, device="cuda", dtype=torch.bfloat16)
        if skips(entry):
            x = torch.where(torch.rand(x.shape, device="cuda") < _KEPT, x, torch.zeros_like(x))
        given = as_bytes(x) if entry.startswith("int") else x
        found: dict[Cut, float] = {}
        for cut in totals:
            totals[cut] += _of_one(entry, given, weights, cut, found)
        fast = min(found, key=found.__getitem__)
        share = round(nbytes / read * 1e6 / found[fast], 3)
        tell({"entry": entry, "matrix": name, "us": round(found[fast], 2), "share": share, "cut": str(fast)})
        del weights, one
        torch.cuda.empty_cache()
    best = min(totals, key=totals.__getitem__)
    tell({"entry": entry, "chosen": str(best), "us": round(totals[best], 2), "share": round(bound / totals[best], 3)})
    return best


def _of_one(entry: str, x: Any, weights: Sequence[Any], cut: Cut, found: dict[Cut, float]) -> float:
    def launch() -> None:
        for weight in weights:
            call(entry, x, weight, cut)

    try:
        found[cut] = replayed_s(launch) / len(weights) * 1e6
    except Exception:  # noqa: BLE001 - see above
        return float("inf")
    return found[cut]


def best_tiles(*, narrow: bool, rows: int, tell: Callable[[dict[str, Any]], None]) -> AttentionTuning:
    """Of decode attention with _CONTEXT tokens a row, over as many pages as rows have in several layers."""
    blocks, layers = rows * _CONTEXT // _BLOCK, max(2, 64 // rows)
    shape = (blocks, 2, _KEY_HEADS, _BLOCK, _DIM)
    pages = [torch.randn(shape, device="cuda", dtype=torch.bfloat16) for _ in range(layers)]
    if narrow:
        pages = [page.to(torch.float8_e4m3fn) for page in pages]
    scales = torch.ones(shape[:-1], device="cuda") if narrow else None
    tables = torch.randperm(blocks, device="cuda", dtype=torch.int32).view(rows, -1)
    q = torch.randn(rows, _HEADS, _DIM, device="cuda", dtype=torch.float16 if narrow else torch.bfloat16)
    runs = torch.arange(rows, device="cuda", dtype=torch.int32)
    positions, real = torch.full_like(runs, _CONTEXT - 1), torch.full_like(runs[:1], rows)
    tau, kept = torch.zeros(1, device="cuda"), torch.zeros_like(real)
    splits = attention.splits_for(rows, _KEY_HEADS, multiprocessors())
    scratch = attention.DecodeScratch(rows, _HEADS, _KEY_HEADS, _DIM, splits, q.device)
    totals: dict[AttentionTuning, float] = {}
    for cut in (AttentionTuning(*one) for one in itertools.product((32, 64, 128), (4, 8), (1, 2, 3))):

        def launch(cut: AttentionTuning = cut) -> None:
            for page in pages:
                attention.decode_attention(
                    q, page, scales, positions, runs, tables, scratch, tau, kept, real, tuning=cut
                )

        try:
            totals[cut] = replayed_s(launch) / layers * 1e6
        except Exception as error:  # noqa: BLE001 - see above
            print("attention", cut, type(error).__name__, str(error)[:100])
    best = min(totals, key=totals.__getitem__)
    tell({"attention": "fp8" if narrow else "bf16", "rows": rows, "chosen": str(best), "us": round(totals[best], 2)})
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    jobs = [(entry, kernels(entry)[start::6]) for entry in _ENTRIES for start in range(6)]
    with concurrent.futures.ProcessPoolExecutor(14, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(compile_all, jobs))
    read = read_bytes_per_s()
    told: list[dict[str, Any]] = []

    def tell(line: dict[str, Any]) -> None:
        told.append(line)
        print(json.dumps(line), flush=True)

    cuts = {entry: asdict(best_of(entry, read, tell)) for entry in _ENTRIES}
    tiles = {
        f"{kind}{', few rows' if rows == 1 else ''}": asdict(best_tiles(narrow=kind == "fp8", rows=rows, tell=tell))
        for kind, rows in itertools.product(("bf16", "fp8"), (1, 128))
    }
    found = torch.cuda.get_device_properties(torch.cuda.current_device())
    table = {
        "card": found.name,
        "capability": [found.major, found.minor],
        "multiprocessors": found.multi_processor_count,
        "rows": {entry: cut for entry, cut in cuts.items() if not entry.startswith("dense")},
        "dense": {entry.removeprefix("dense, "): cut for entry, cut in cuts.items() if entry.startswith("dense")},
        "attention": tiles,
    }
    options.out.write_text(json.dumps(table, indent=1) + "\n")


def replayed_s(launch: Callable[[], object]) -> float:
    launch()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        launch()
    return time_s(graph.replay, repeats=7)


if __name__ == "__main__":
    main()
