"""Types and small helpers of series as arrays."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def shifted(values: Floats, by: int) -> Floats:
    """The value `by` steps ago; the first value before there is one."""
    if by <= 0:
        return values
    return np.concatenate([np.full(min(by, len(values)), values[0]), values[: max(len(values) - by, 0)]])
