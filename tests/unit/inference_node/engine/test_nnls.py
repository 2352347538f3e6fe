"""Our non-negative least squares against scipy's."""

import numpy as np
import pytest
from scipy.optimize import nnls

from inference_node.engine.nnls import non_negative_least_squares


@pytest.mark.parametrize("seed", range(50))
def test_is_as_good_as_scipys(seed: int) -> None:
    source = np.random.default_rng(seed)
    rows, columns = int(source.integers(3, 60)), int(source.integers(1, 28))
    design = source.normal(size=(rows, columns))
    design = np.vstack([np.abs(design) if seed % 2 else design, 1e-4 * np.eye(columns)])
    target = np.concatenate([source.normal(size=rows), np.zeros(columns)])
    found = non_negative_least_squares(design, target)
    _, best = nnls(design, target)
    assert (found >= 0).all()
    assert np.linalg.norm(design @ found - target) == pytest.approx(best, rel=1e-6, abs=1e-9)


def test_what_only_negatives_explain_is_zero() -> None:
    assert non_negative_least_squares(np.eye(3), np.array([-1.0, -2.0, 3.0])).tolist() == [0.0, 0.0, 3.0]
