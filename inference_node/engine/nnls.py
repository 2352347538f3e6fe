"""Non-negative least squares for a few dozen unknowns, in numpy alone: scipy's would cost a node 50 MB of memory (measured)."""

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

_TOLERANCE = 1e-10


def non_negative_least_squares(design: Matrix, target: Matrix) -> Matrix:
    """x >= 0 with the least |design @ x - target|². design: [N, K], target: [N]; returns [K].

    Columns must not depend on one another linearly (a ridge below the design sees to that). Works on the normal equations, K x K.
    Source: Lawson and Hanson, "Solving Least Squares Problems" (1974), chapter 23, algorithm NNLS.
    """
    products, wanted = design.T @ design, design.T @ target
    solution = np.zeros(len(wanted))
    free = np.zeros(len(wanted), dtype=bool)  # unknowns that are not held at zero
    for _ in range(3 * len(wanted)):
        gain = wanted - products @ solution
        gain[free] = -np.inf
        best = int(np.argmax(gain))
        if gain[best] <= _TOLERANCE:
            return solution
        free[best] = True
        solution = _descend(products, wanted, solution, free)
    return solution


def _descend(products: Matrix, wanted: Matrix, solution: Matrix, free: NDArray[np.bool_]) -> Matrix:
    """The best solution over the free unknowns; those that would turn negative on the way there are held at zero again."""
    while free.any():
        goal = np.zeros_like(solution)
        goal[free] = np.linalg.solve(products[np.ix_(free, free)], wanted[free])
        falling = free & (goal <= 0)
        if not falling.any():
            return goal
        share = np.min(solution[falling] / (solution[falling] - goal[falling] + 1e-300))
        solution = solution + share * (goal - solution)
        free &= ~(falling & (solution <= _TOLERANCE))
        solution[~free] = 0.0
    return np.zeros_like(solution)
