"""Cut-offs of one model: read from the data folder, or learned from short texts and kept there."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from inference_node.pruning.allocate import allocate
from inference_node.pruning.observe import Observer
from inference_node.pruning.prune import Pruner
from inference_node.pruning.thresholds import RATES, SHARES, SITES, CalibrationInvalid, PruningTable

# Damage is measured at this share: enough to stand clear of rounding, little enough for errors to add up still.
_PROBED_SHARE = 0.5
_PROBE_TOKENS, _PROBE_PIECES = 64, 4
# Passes cost what they compute. 4e12 operations are about 10 s of one core with AMX, under load.
_PROBE_OPERATIONS = 4e12
# Between 0.5 and 1 it makes no difference that 2,500 tokens of held-out text could show; below, divergence grows.
_TRUST = 0.75
# Below this a divergence is rounding noise.
_LEAST_DIVERGENCE = 1e-5


class Run(Protocol):
    """One text through the model, beside what it serves; may raise to give up midway.

    Returns logits [T, V] fp32; under an Observer nobody looks at them, and one row will do.
    """

    def __call__(self, tokens: Sequence[int], hook: Observer | Pruner | None) -> Tensor: ...


def load_or_learn(path: Path, *, fingerprint: str, num_layers: int, learn: Callable[[], PruningTable]) -> PruningTable:
    """The model's table, from `path` if it is there and whole; otherwise learned.

    A table that cannot be written is used all the same: the next start learns it again.
    """
    with contextlib.suppress(OSError, CalibrationInvalid):
        return PruningTable.load(path, fingerprint, num_layers)
    table = learn()
    with contextlib.suppress(OSError):
        table.save(path, fingerprint)
    return table


def learn(run: Run, tokens: Sequence[int], site_weights: Sequence[int], num_layers: int) -> PruningTable:
    """Shows the model the text: whole once to see its activations, then short pieces with some of them dropped.

    site_weights: how many weights stand behind each site of one layer. Seconds of work.
    A site's cost at a share is the energy that it drops (TEAL, section 5), scaled by what the model's answers were seen to
    suffer for it: the layers' errors are not alike, and one layer's MLP can matter five times as much as its neighbour's.
    """
    observer = Observer(num_layers, skip=1)
    run(tokens, observer)
    quantiles, errors = observer.quantiles(), observer.errors()
    together = _layers_together(site_weights, num_layers)
    harm = _harm(run, _pieces(tokens), quantiles, together)
    scale = harm / errors[:, :, SHARES.index(_PROBED_SHARE)].clamp_min(1e-12)
    costs = errors * (scale**_TRUST).unsqueeze(-1)
    weights = torch.tensor(site_weights, dtype=torch.float32).expand(num_layers, -1)
    weights = weights / weights.sum()
    return PruningTable(quantiles, allocate(costs, weights, SHARES, RATES), weights)


def _pieces(tokens: Sequence[int]) -> list[int]:
    """Short pieces of a text from its start to its end, as one."""
    length = _PROBE_TOKENS // _PROBE_PIECES
    if len(tokens) <= _PROBE_TOKENS:
        return list(tokens)
    starts = [(len(tokens) - length) * piece // (_PROBE_PIECES - 1) for piece in range(_PROBE_PIECES)]
    return [token for start in starts for token in tokens[start : start + length]]


def _layers_together(site_weights: Sequence[int], num_layers: int) -> int:
    """How many neighbouring layers are probed at once, so that a large model takes no longer than a small one."""
    one_pass = 2 * _PROBE_TOKENS * sum(site_weights) * num_layers
    passes = max(len(SITES), int(_PROBE_OPERATIONS / one_pass))
    groups = min(num_layers, max(1, passes // len(SITES)))
    return -(-num_layers // groups)


def _harm(run: Run, tokens: Sequence[int], quantiles: Tensor, together: int) -> Tensor:
    """[L, 4]: divergence (KL, in nats per token) from the dense answers when a site alone drops the probed share."""
    num_layers = quantiles.shape[0]
    cutoffs = quantiles[:, :, SHARES.index(_PROBED_SHARE)]
    dense = torch.log_softmax(run(tokens, None), dim=-1)
    likely = dense.exp()
    harm = torch.empty(cutoffs.shape)
    for first in range(0, num_layers, together):
        layers = slice(first, first + together)
        for site in range(len(SITES)):
            # Below zero nothing is dropped.
            taus = torch.full(cutoffs.shape, -1.0)
            taus[layers, site] = cutoffs[layers, site]
            found = torch.log_softmax(run(tokens, Pruner(taus)), dim=-1)
            divergence = float((likely * (dense - found)).sum(-1).mean())
            harm[layers, site] = max(divergence, _LEAST_DIVERGENCE) / len(range(num_layers)[layers])
    return harm
