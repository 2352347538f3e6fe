"""Kernels for CUDA devices, in Triton, which is there on machines with a GPU only: `planes` and `fp8` do without it.

`reference` holds the same functions in plain torch, the truth that each is tested against. Letters: M rows of the step, C hidden
size, H query heads, G key heads, F = H / G heads that share one, D head dim, K inputs and N outputs of a matrix.
"""
