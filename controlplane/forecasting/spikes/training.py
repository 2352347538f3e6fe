"""Trains the risk model: boosted quantile regression per target, out-of-fold scores, and the calibration of their mean.

Regressing how near the next minutes come to a spike, at a high quantile, beats classifying whether one begins: each window then
says something, not only the few before an onset. The only module that needs scikit-learn; the controller's tick does not
import it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.ensemble import HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

from controlplane.forecasting.spikes.costs import Costs
from controlplane.forecasting.spikes.labels import Labels
from controlplane.forecasting.spikes.risk import SpikeRisk, probability
from controlplane.forecasting.spikes.trailing import Floats
from controlplane.forecasting.spikes.trees import Trees

Members = dict[str, Trees]
Bools = NDArray[np.bool_]

# Six parts, not three: models of two thirds of the past are less sure than the one that is served, and thresholds of their
# scores too low.
FOLDS = 6
PURGE_S = 3600.0
# Neighbouring windows tell nearly the same: each third row of a big service makes as good a model in a third of the time.
_MANY_ROWS = 20_000
_MIN_ROWS = 500
_GROWTH = {
    "max_iter": 130,
    "max_leaf_nodes": 15,
    "learning_rate": 0.05,
    "l2_regularization": 1.0,
    "max_features": 0.5,
    "early_stopping": False,
}
# Member -> target and quantile. Members differ in what they look at, so that their mean is steadier than each.
_MEMBERS = {
    "sustained_q50": ("sustained", 0.5),
    "sustained_q80": ("sustained", 0.8),
    "worst_q80": ("worst", 0.8),
    "worst_q90": ("worst", 0.9),
}


@dataclass(frozen=True, slots=True)
class Service:
    """Training data of one service: `rows` [N, F], labels [N], and `usable` [N], where a warning could be raised at all."""

    name: str
    rows: Floats
    labels: Labels
    usable: Bools
    step_s: float

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def trainable(self) -> Bools:
        return self.usable & self.labels.known


def grow(parts: Iterable[tuple[Service, Bools]], seed: int) -> Members | None:
    """One model per target, of the rows that each mask picks. None when they hold no spike or too little else."""
    rows, targets, spikes = [], [], 0.0
    for service, mask in parts:
        picked = np.flatnonzero(mask & service.trainable)
        if len(picked) > _MANY_ROWS:
            picked = picked[:: 3 if len(picked) > 2 * _MANY_ROWS else 2]
        rows.append(service.rows[picked])
        targets.append({name: getattr(service.labels, name)[picked] for name in ("worst", "sustained")})
        spikes += float(service.labels.onset[picked].sum())
    table = np.concatenate(rows)
    # What nobody measured has no values to split at; scikit-learn refuses a column of nothing.
    table[:, np.isnan(table).all(axis=0)] = 0.0
    if len(table) < _MIN_ROWS or not spikes:
        return None
    leaf = int(np.clip(len(table) // 500, 20, 80))
    members: Members = {}
    for i, (name, (target, quantile)) in enumerate(_MEMBERS.items()):
        model = HistGradientBoostingRegressor(
            loss="quantile", quantile=quantile, min_samples_leaf=leaf, random_state=seed + i, **_GROWTH
        )
        # On one thread: a second one waits for the first at every node of a tree, spinning, and where another process holds its
        # core (a node's engine, a tick) a training of seconds took minutes.
        with threadpool_limits(1, user_api="openmp"):
            members[name] = Trees.of(model.fit(table, np.concatenate([part[target] for part in targets])))
    return members


def nearness(members: Members, rows: Floats) -> Floats:
    """[N] mean of the members: high quantile of log(p99 / SLO) ahead."""
    found: Floats = np.mean([trees(rows) for trees in members.values()], axis=0)
    return found


def in_time(
    services: Sequence[Service], seed: int = 0, say: Callable[[str], None] = lambda _: None
) -> dict[str, Floats]:
    """Nearness [N] of each service out of fold: contiguous parts, an hour purged on both sides of the one left out."""
    found = {service.name: np.full(len(service), np.nan) for service in services}
    for fold in range(FOLDS):
        say(f"training without part {fold + 1} of {FOLDS}")
        parts = []
        for service in services:
            start, stop = len(service) * fold // FOLDS, len(service) * (fold + 1) // FOLDS
            purge = round(PURGE_S / service.step_s)
            index = np.arange(len(service))
            parts.append((service, (index < start - purge) | (index >= stop + purge)))
        members = grow(parts, seed)
        if members is None:
            continue
        for service in services:
            start, stop = len(service) * fold // FOLDS, len(service) * (fold + 1) // FOLDS
            found[service.name][start:stop] = nearness(members, service.rows[start:stop])
    return found


def across(
    services: Sequence[Service], seed: int = 0, say: Callable[[str], None] = lambda _: None
) -> dict[str, Floats]:
    """Nearness [N] of each service by a model of the others: what to expect on a service never seen. Many services share a
    fold."""
    found = {service.name: np.full(len(service), np.nan) for service in services}
    folds = min(len(services), 4)
    for fold in range(folds):
        left_out = services[fold::folds]
        kept = [service for service in services if service not in left_out]
        if not kept:
            continue
        say(f"training without {', '.join(service.name for service in left_out)}")
        members = grow([(service, np.ones(len(service), dtype=bool)) for service in kept], seed)
        if members is None:
            continue
        for service in left_out:
            found[service.name] = nearness(members, service.rows)
    return found


def calibrate(services: Sequence[Service], scores: dict[str, Floats]) -> tuple[float, float]:
    """(slope, bias) of the logit of an onset within reach, by maximum likelihood on out-of-fold nearness (Platt, 1999).

    Windows within reach of one onset are not independent, but that widens the estimate without moving it. (1, 0) without a spike.
    """
    near, onset = [], []
    for service in services:
        known = service.trainable & np.isfinite(scores[service.name])
        near.append(scores[service.name][known])
        onset.append(service.labels.onset[known])
    seen, target = np.concatenate(near), np.concatenate(onset)
    if not target.sum():
        return 1.0, 0.0

    def loss(parameters: Floats) -> tuple[float, Floats]:
        logit = parameters[0] * seen + parameters[1]
        miss = probability(logit) - target
        gradient = np.asarray([float(miss @ seen), float(miss.sum())]) / len(target)
        return float(np.mean(np.logaddexp(0.0, logit) - target * logit)), gradient

    best = minimize(loss, np.asarray([2.0, -1.0]), jac=True, bounds=[(1e-3, None), (None, None)], method="L-BFGS-B").x
    return float(best[0]), float(best[1])


def assemble(
    members: Members,
    calibration: tuple[float, float],
    *,
    names: Sequence[str],
    costs: Costs,
    thresholds: dict[str, float | None],
    trained_on: dict[str, int],
) -> SpikeRisk:
    """The model that is stored and served."""
    slope, bias = calibration
    weights = dict.fromkeys(members, slope / len(members))
    return SpikeRisk(tuple(names), costs, members, weights, bias, thresholds, trained_on)
