"""The GPU's half of `model`: weights, pages and steps in the memory of one CUDA device.

`store`, `kv_cache` and `device` import anywhere; the rest needs Triton.
"""
