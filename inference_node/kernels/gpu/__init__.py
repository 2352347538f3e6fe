"""Kernels for CUDA devices, in Triton. Nothing outside this folder and `model.gpu` imports it: machines without one have no Triton.

`reference` holds the same functions in plain torch, the truth that each is tested against. Letters: M rows of the step, C hidden
size, H query heads, G key heads, F = H / G heads that share one, D head dim, K inputs and N outputs of a matrix.
"""
