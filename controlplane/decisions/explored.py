"""What was tried before, and how wrong the performance model proved to be there: what the next try is chosen by. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from controlplane.decisions.gaussian import Difference, Kernel, Posterior, Sample
from inference_node.contract.settings import EngineSettings, KvPrecision, Precision


class TryVerdict(StrEnum):
    """Of what was tried, against the node's peers: better or the same for sure, worse for sure, or not known."""

    BETTER = "better"
    SAME = "same"
    WORSE = "worse"
    UNCLEAR = "unclear"


class Quantity(StrEnum):
    """What the model predicts and a try measures. step_time tells of capacity, the others of the objectives."""

    TTFT = "ttft_p95_s"
    ITL = "itl_p95_s"
    STEP = "step_time"


@dataclass(frozen=True, slots=True)
class LogError:
    """log(measured / predicted) of one quantity, in which node and peers differ; sd: how well it is known."""

    quantity: Quantity
    value: float
    sd: float


@dataclass(frozen=True, slots=True)
class Tried:
    """A try of the past. until, verdict: None while it goes on. node_rps: load of the node that it was measured under.

    harmful: it had to be ended, since the node broke an objective, failed requests, refused or restarted.
    """

    at: datetime
    settings: EngineSettings
    base: EngineSettings
    node_rps: float
    until: datetime | None = None
    verdict: TryVerdict | None = None
    errors: tuple[LogError, ...] = ()
    harmful: bool = False

    def is_within(self, settings: EngineSettings) -> bool:
        """Whether `settings` go at least as far from the same base as this try did, in each knob that it changed."""
        for knob, (here, there) in self.base.changed(self.settings).items():
            then = getattr(settings, knob)
            if isinstance(there, str | bool) or isinstance(here, str | bool):
                if then != there:
                    return False
            elif not (then >= there if there > here else then <= there):
                return False
        return True


# By how much the model is off, as a logarithm, before anything was tried: projections vary capacity by 5 to 30 %, and a quarter
# is near the upper end. Far from what is in force both ends count, so that 2 sd are a factor of 2. Chosen, not measured.
PRIOR_SD = 0.25
# Octaves of batch and of token budget, tens of ms of wait, pruning, and then a column for each format that weights and keys can
# have, 1 or 0; the load of a node in octaves. Chosen so that a doubling of the batch, a token budget times 2.5, the whole wait, a
# third of pruning or another format leave about the same doubt: what exploration takes for one step.
_SCALES = (1.5, 2.0, 3.0, 0.5)
_FORMAT_SCALE, _LOAD_SCALE = 2.2, 2.0
_KERNEL = Kernel(PRIOR_SD, (*_SCALES, *(_FORMAT_SCALE for _ in (*Precision, *KvPrecision))), context_scale=_LOAD_SCALE)
_LEAST_RPS = 0.01


@dataclass(frozen=True)
class ModelErrors:
    """How wrong the model is likely to be at other settings than those in force, by quantity."""

    tried: Sequence[Tried] = ()
    _posteriors: dict[Quantity, Posterior] = field(init=False, repr=False, compare=False, default_factory=dict)

    def at(
        self, quantity: Quantity, settings: EngineSettings, base: EngineSettings, node_rps: float
    ) -> tuple[float, float]:
        """(mean, standard deviation) of log(true / predicted) of the change from `base` to `settings`."""
        if quantity not in self._posteriors:
            self._posteriors[quantity] = Posterior(_KERNEL, [*_samples(self.tried, quantity)])
        return self._posteriors[quantity].at(_difference(settings, base, node_rps))


def _samples(tried: Sequence[Tried], quantity: Quantity) -> list[Sample]:
    return [
        Sample(_difference(each.settings, each.base, each.node_rps), error.value, error.sd)
        for each in tried
        for error in each.errors
        if error.quantity is quantity
    ]


def _difference(settings: EngineSettings, base: EngineSettings, node_rps: float) -> Difference:
    return Difference(_place(settings), _place(base), math.log2(max(node_rps, _LEAST_RPS)))


def _place(settings: EngineSettings) -> tuple[float, ...]:
    return (
        math.log2(settings.max_batch_size),
        math.log2(settings.max_batched_tokens),
        settings.batch_wait_ms / 10,
        settings.pruning_threshold,
        *(float(settings.precision is each) for each in Precision),
        *(float(settings.kv_precision is each) for each in KvPrecision),
    )
