"""Boosted trees as plain arrays: evaluated by numpy alone, stored without pickle, the same bits on every machine.

Grown by scikit-learn (`training.py`); once grown they need it no more, so the controller's tick neither imports nor waits for it.
"""

import io
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from controlplane.forecasting.spikes.trailing import Floats


@dataclass(frozen=True, slots=True)
class Trees:
    """[T, M] each: T trees of at most M nodes, node 0 the root; a leaf points to itself. `start` is added to the sum of leaves.

    A row goes left where its value <= threshold, or where it is NaN and `missing_left` holds.
    """

    feature: NDArray[np.int32]
    threshold: Floats
    missing_left: NDArray[np.bool_]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    value: Floats
    start: Floats
    depth: NDArray[np.int32]

    def __call__(self, rows: Floats) -> Floats:
        """rows: [N, F] -> [N]."""
        total = np.full(len(rows), float(self.start[0]))
        if len(rows) == 1:  # a live tick: all trees at once
            return total + self._walk_one(rows[0])
        index = np.arange(len(rows))
        for tree in range(len(self.feature)):
            node = np.zeros(len(rows), dtype=np.int32)
            for _ in range(int(self.depth[0])):
                seen = rows[index, self.feature[tree, node]]
                left = (seen <= self.threshold[tree, node]) | (np.isnan(seen) & self.missing_left[tree, node])
                node = np.where(left, self.left[tree, node], self.right[tree, node])
            total += self.value[tree, node]
        return total

    def _walk_one(self, row: Floats) -> float:
        tree = np.arange(len(self.feature))
        node = np.zeros(len(tree), dtype=np.int32)
        for _ in range(int(self.depth[0])):
            seen = row[self.feature[tree, node]]
            left = (seen <= self.threshold[tree, node]) | (np.isnan(seen) & self.missing_left[tree, node])
            node = np.where(left, self.left[tree, node], self.right[tree, node])
        return float(self.value[tree, node].sum())

    @classmethod
    def of(cls, grown: Any) -> Self:
        """Of a fitted HistGradientBoosting estimator with one output (its nodes have stood in `_predictors` since 0.21)."""
        nodes = [stage[0].nodes for stage in grown._predictors]
        widest = max(len(tree) for tree in nodes)
        shape = (len(nodes), widest)
        feature, left, right = (np.zeros(shape, dtype=np.int32) for _ in range(3))
        threshold, value = np.full(shape, np.inf), np.zeros(shape)
        missing_left = np.ones(shape, dtype=bool)
        depth = 1
        for i, tree in enumerate(nodes):
            n = len(tree)
            leaf = tree["is_leaf"].astype(bool)
            itself = np.arange(n)
            feature[i, :n] = np.where(leaf, 0, tree["feature_idx"])
            threshold[i, :n] = np.where(leaf, np.inf, tree["num_threshold"])
            missing_left[i, :n] = np.where(leaf, True, tree["missing_go_to_left"].astype(bool))
            left[i, :n] = np.where(leaf, itself, tree["left"])
            right[i, :n] = np.where(leaf, itself, tree["right"])
            value[i, :n] = np.where(leaf, tree["value"], 0.0)
            depth = max(depth, int(tree["depth"].max()))
        start = np.asarray(grown._baseline_prediction, dtype=float).reshape(-1)[:1]
        return cls(feature, threshold, missing_left, left, right, value, start, np.asarray([depth], dtype=np.int32))

    def to_bytes(self) -> bytes:
        out = io.BytesIO()
        np.savez_compressed(out, **{field.name: getattr(self, field.name) for field in fields(self)})
        return out.getvalue()

    @classmethod
    def from_bytes(cls, stored: bytes) -> Self:
        """Raises ValueError or KeyError when the bytes are no trees; never runs code from them."""
        with np.load(io.BytesIO(stored), allow_pickle=False) as arrays:
            return cls(**{field.name: arrays[field.name] for field in fields(cls)})
