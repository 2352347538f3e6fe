"""The four matrices of a layer, product by product: ours against the library's."""

from typing import Any

import torch

from inference_node.bench.gpu.limits import time_s
from inference_node.kernels.gpu.dense import dense
from inference_node.kernels.gpu.listed import listed
from inference_node.kernels.gpu.planes import pack
from inference_node.kernels.gpu.planes_gemm import GemmScratch, planes_gemm
from inference_node.kernels.gpu.planes_row import MOST_ROWS, planes_row

_SHAPES = {"qkv": (4096, 6144), "output": (4096, 4096), "gate_up": (4096, 28_672), "down": (14_336, 4096)}
# More than the L2 cache holds, so that each product reads from memory.
_COPIES_BYTES = 400 << 20


def run(report: Any, read: float) -> None:
    device = torch.device("cuda")
    many = GemmScratch(device, 28_672, 132)
    for name, (inputs, outputs) in _SHAPES.items():
        copies = max(2, -(-_COPIES_BYTES // (inputs * outputs * 2)))
        weights = [torch.randn(inputs, outputs, device=device, dtype=torch.bfloat16) for _ in range(copies)]
        turned = [weight.t().contiguous() for weight in weights]
        planes = [pack(weight.t()) for weight in weights] * 2

        def timed(what: str, rows: int, nbytes: int, calls: list[Any], name: str = name) -> None:
            calls[0]()
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                for call in calls:
                    call()
            taken = time_s(graph.replay, repeats=9) / len(calls)
            report.add(
                what=what, matrix=name, rows=rows, us=round(taken * 1e6, 2), share=round(nbytes / read / taken, 3)
            )

        nbytes = inputs * outputs * 2
        for rows in (1, 2, 8, 16):
            x = torch.randn(rows, inputs, device=device, dtype=torch.bfloat16)
            timed("cublas [K,N]", rows, nbytes, [lambda w=w: torch.mm(x, w) for w in weights])
            timed("cublas [N,K]", rows, nbytes, [lambda w=w: torch.mm(x, w.t()) for w in turned])
            for bits in (8, 4):
                size = planes[0].nbytes(bits)
                timed(f"gemm int{bits}", rows, size, [lambda p=p: planes_gemm(x, p, many, bits=bits) for p in planes])
                if rows <= MOST_ROWS:
                    timed(f"dot int{bits}", rows, size, [lambda p=p: planes_row(x, p, bits=bits) for p in planes])
        x = torch.randn(1, inputs, device=device, dtype=torch.bfloat16)
        timed("dense bf16", 1, nbytes, [lambda w=w: dense(x, w) for w in weights])
        x = torch.where(torch.rand_like(x) < 0.4, torch.zeros_like(x), x)
        timed("dense bf16, 40 % dropped", 1, nbytes, [lambda w=w: dense(x, w, skips=True) for w in weights])
        timed("listed bf16, 40 % dropped", 1, nbytes, [lambda w=w: listed(x, w) for w in weights])
        del weights, turned, planes
