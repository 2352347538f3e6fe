"""A transformers module in one precision, ready to run. Loads none of transformers itself, as most models need none of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from inference_node.contract.settings import Precision
from inference_node.kernels.rows import RowPlan
from inference_node.model.forward import StepInputs
from inference_node.model.kv_cache import KvCache
from inference_node.model.weights import Arithmetic

# A module's own int8 would need its activations' ranges, and nobody has tried each family's.
PRECISIONS = (Precision.FP32, Precision.BF16)
LIMITS = "transformers' own module runs this family, which here has fp32 and bf16 weights and no pruning"


@dataclass(frozen=True, slots=True)
class ForeignStore:
    """`forward` writes a step's keys and values and returns logits [R, V] fp32 of the sampled rows.

    It may run in several threads, over pools of their own. `rows` pads a step to no more than it has: products pad themselves.
    """

    precision: Precision
    arithmetic: Arithmetic
    module: Any
    forward: Callable[[StepInputs, KvCache], Tensor]
    nbytes: int
    rows: RowPlan
