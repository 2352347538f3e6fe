"""`python -m inference_node.bench.gpu`: all lines of docs/gpu-notes.md's table in one run, as a table and as JSON."""

import argparse
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from inference_node.bench.gpu import limits
from inference_node.bench.gpu.random_model import llama3_8b, random_store
from inference_node.bench.gpu.steps import Bench
from inference_node.contract.settings import KvPrecision, Precision
from inference_node.model.gpu.runner import GpuRunner
from inference_node.model.gpu.store import GpuStore, convert


class Report:
    """Lines as they come, and all of them in a file at the end of each part: a run that is cut short loses little."""

    def __init__(self, path: Path | None) -> None:
        self._path, self._lines = path, list[dict[str, Any]]()
        self._began = time.perf_counter()

    def add(self, **line: Any) -> None:
        line["at_s"] = round(time.perf_counter() - self._began, 1)
        self._lines.append(line)
        print(json.dumps(line), flush=True)
        if self._path is not None:
            self._path.write_text(json.dumps(self._lines, indent=1))

    def attempt(self, what: str, part: Callable[[], None]) -> None:
        try:
            part()
        except Exception as error:  # noqa: BLE001 - the other parts are worth having
            traceback.print_exc()
            self.add(what=what, error=f"{type(error).__name__}: {error}"[:500])
            torch.cuda.empty_cache()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", default="decode,pruned,prefill,serve,changes,peers")
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--kv-tokens", type=int, default=256 * 1056)
    parser.add_argument("--formats", default="bf16,fp8,int4,int8")
    options = parser.parse_args()
    report = Report(options.out)
    parts = set(options.parts.split(","))
    driver = subprocess.run(
        ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"], capture_output=True, text=True, check=False
    )  # fmt: skip
    read, flops = limits.read_bytes_per_s(), limits.flops_per_s()
    report.add(
        what="limits", card=driver.stdout.strip(), torch=torch.__version__, read_tb_s=round(read / 1e12, 3),
        bf16_tflop_s=round(flops / 1e12, 1), date=time.strftime("%Y-%m-%d"), pid=os.getpid(),
    )  # fmt: skip
    torch.cuda.empty_cache()
    if "products" in parts:
        from inference_node.bench.gpu import products  # noqa: PLC0415

        report.attempt("products", lambda: products.run(report, read))
    if parts & {"decode", "pruned", "prefill", "serve", "changes", "profile"}:
        _with_model(options, report, parts, read)
        torch.cuda.empty_cache()
    if parts & {"decode", "narrow"} and "fp8" in options.formats:
        report.attempt("decode, e4m3 keys and values", lambda: _with_narrow_cache(options, report, read))
    if "peers" in parts:
        from inference_node.bench.gpu import peers  # noqa: PLC0415

        torch.cuda.empty_cache()
        report.attempt("peers", lambda: peers.run(report))
    return 0


def _with_model(options: argparse.Namespace, report: Report, parts: set[str], read: float) -> None:
    spec = llama3_8b()
    exact = random_store(spec)
    runner = GpuRunner(spec, exact, num_blocks=options.kv_tokens // 32, block_size=32, max_model_len=2048)
    bench = Bench(runner, read)
    bench.fill()
    report.add(what="loaded", memory_gb=round(torch.cuda.memory_allocated() / 1e9, 1))
    stores: dict[Precision, GpuStore] = {Precision.BF16: exact}
    wanted = [Precision(name) for name in options.formats.split(",")]

    def store_of(precision: Precision) -> GpuStore:
        if precision not in stores:
            began = time.perf_counter()
            other = {Precision.INT4: Precision.INT8, Precision.INT8: Precision.INT4}.get(precision)
            if other in stores:
                stores[precision] = stores[other].in_precision(precision)
            else:
                stores[precision] = convert(exact, precision)
            report.add(what="prepared", format=precision.value, seconds=round(time.perf_counter() - began, 3))
        return stores[precision]

    def decode(precision: Precision) -> None:
        store = store_of(precision)
        for rows in (1, 2, 4, 8, 16, 32, 128, 256):
            began = time.perf_counter()
            found = bench.decode("decode", store, rows, 1024)
            report.add(
                format=precision.value, kv="bf16", **found.row(), with_capture_s=round(time.perf_counter() - began, 2)
            )

    def pruned(precision: Precision) -> None:
        store = store_of(precision)
        dense = bench.decode("dense", store, 1, 1024)
        for share in (0.21, 0.35, 0.46):
            bench.prune(exact, share)
            found = bench.decode("pruned", store, 1, 1024, prunes=True)
            kept = bench.kept_share(store, bench.runs(1, 1023))
            report.add(
                format=precision.value, **found.row(), share=share, skipped=round(1 - kept, 3),
                over_dense=round(dense.step_s / found.step_s, 3),
            )  # fmt: skip
        runner.pool.cuts.taus.zero_()

    def prefill(precision: Precision) -> None:
        store = store_of(precision)
        for rows, count in ((1, 256), (1, 1024), (2, 1024), (1, 2048)):
            taken = bench.time(store, bench.runs(rows, 0, count))
            report.add(what="prefill", format=precision.value, prompts=rows, tokens=count, step_ms=round(taken * 1e3, 3),
                       tokens_per_s=round(rows * count / taken))  # fmt: skip

    def profiled(precision: Precision, rows: int) -> None:
        lines = bench.profile(store_of(precision), bench.runs(rows, 1023))
        for kernel, launches, taken in lines[:14]:
            report.add(
                what="kernel",
                format=precision.value,
                rows=rows,
                kernel=kernel[:60],
                launches=launches,
                us=round(taken, 1),
            )

    def one(precision: Precision) -> None:
        if "profile" in parts:
            for rows in (1, 128):
                report.attempt(f"profile {precision}", partial(profiled, precision, rows))
        if "decode" in parts:
            report.attempt(f"decode {precision}", partial(decode, precision))
        if "pruned" in parts and precision is Precision.BF16:
            report.attempt(f"pruned {precision}", partial(pruned, precision))
        if "prefill" in parts and precision not in (Precision.INT8, Precision.INT4):
            report.attempt(f"prefill {precision}", partial(prefill, precision))

    planes = (Precision.INT8, Precision.INT4)
    for precision in wanted:
        if precision not in planes:
            one(precision)
    if "serve" in parts:
        from inference_node.bench.gpu import serving  # noqa: PLC0415

        for precision in (Precision.BF16, Precision.FP8):
            report.attempt(f"serve {precision}", lambda: serving.run(report, runner, store_of(precision)))
    for precision in wanted:
        if precision in planes:
            one(precision)
    if "changes" in parts:
        from inference_node.bench.gpu import changes  # noqa: PLC0415

        def change() -> None:
            taus = {}
            for share in (0.25, 0.4):
                bench.prune(exact, share)
                taus[share] = runner.pool.cuts.taus[:-1].view(-1, 4).cpu()
            runner.pool.cuts.taus.zero_()
            changes.run(report, runner, stores, taus)

        report.attempt("changes", change)


def _with_narrow_cache(options: argparse.Namespace, report: Report, read: float) -> None:
    """Keys and values in e4m3 from the start: beside those in bf16, as a change has them, so many rows do not fit."""
    spec = llama3_8b()
    exact = random_store(spec)
    narrow = convert(exact, Precision.FP8)
    runner = GpuRunner(
        spec, narrow, num_blocks=options.kv_tokens // 32, block_size=32, max_model_len=2048, kv=KvPrecision.FP8
    )
    bench = Bench(runner, read)
    bench.fill()
    for rows in (1, 32, 128, 256):
        report.add(format="fp8", kv="fp8", **bench.decode("decode", narrow, rows, 1024).row())
    report.add(format="bf16", kv="fp8", **bench.decode("decode", exact, 256, 1024).row())


if __name__ == "__main__":
    sys.exit(main())
