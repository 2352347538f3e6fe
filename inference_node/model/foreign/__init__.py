"""Models that the own forward does not know: transformers' module computes them, over our paged keys and values.

Scheduling, prefix reuse, preemption and the live knobs of batching are those of every other model; precisions are fp32 and bf16,
and nothing is pruned. That such a model is computed rightly is not assumed but tried, each time it is loaded: see `check`.
"""
