"""The learned risk of a spike: boosted models of scale-free features, their mean calibrated to a probability.

It is what the controller evaluates each tick: numpy only, milliseconds, and no state but its arrays. Without a model the fluid
outlook stands in (`cold_start`), which needs no training and holds up on services never seen.
"""

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from controlplane.errors import Invalid
from controlplane.forecasting.spikes.costs import Costs
from controlplane.forecasting.spikes.features import features
from controlplane.forecasting.spikes.history import History
from controlplane.forecasting.spikes.trailing import Floats
from controlplane.forecasting.spikes.trees import Trees

FORMAT = 1
# Of the cold start: logit of an onset within 600 s per standardised excess load, fitted to the three ServeGen development traces
# (Platt), and the probability at which their pooled F1 is best.
_COLD_SLOPE, _COLD_BIAS = 2.57, -3.95
COLD_WATCH = 0.10


class UnknownModel(Invalid):
    """Stored bytes are no risk model of this version."""


@dataclass(frozen=True, slots=True)
class SpikeRisk:
    """`members`: name -> trees; `weights`: of the members' scores in the logit, with `bias`. `names`: the features in the
    trees' order.

    `thresholds` are probabilities by setting (watch, page), chosen for services that the model was not trained on; None:
    no warnings.
    """

    names: tuple[str, ...]
    costs: Costs
    members: Mapping[str, Trees]
    weights: Mapping[str, float]
    bias: float
    thresholds: Mapping[str, float | None]
    trained_on: Mapping[str, int]

    def of(self, past: History, slo_s: float) -> Floats:
        """[N] probability that a spike begins within 600 s, from each window's past."""
        return self.of_rows(self.rows(past, slo_s))

    def newest(self, past: History, slo_s: float) -> float:
        """The probability now."""
        return float(self.of_rows(self.rows(past, slo_s)[-1:])[0])

    def rows(self, past: History, slo_s: float) -> Floats:
        """[N, F] in the trees' order."""
        found = features(past, slo_s, self.costs)
        return np.column_stack([found[name] for name in self.names])

    def of_rows(self, rows: Floats) -> Floats:
        logit = np.full(len(rows), self.bias)
        for name, trees in self.members.items():
            logit += self.weights[name] * trees(rows)
        return probability(logit)

    def to_bytes(self) -> bytes:
        """A zip of one JSON document and one array file per member; no pickle in it."""
        out = io.BytesIO()
        document = {
            "format": FORMAT,
            "names": list(self.names),
            "costs": [self.costs.per_prompt_token, self.costs.per_generated_token, self.costs.per_request],
            "weights": dict(self.weights),
            "bias": self.bias,
            "thresholds": dict(self.thresholds),
            "trained_on": dict(self.trained_on),
        }
        with zipfile.ZipFile(out, "w") as archive:
            # A fixed time in the archive: the same model is the same bytes.
            archive.writestr(zipfile.ZipInfo("risk.json"), json.dumps(document, sort_keys=True))
            for name, trees in sorted(self.members.items()):
                archive.writestr(zipfile.ZipInfo(f"{name}.npz"), trees.to_bytes())
        return out.getvalue()

    @classmethod
    def from_bytes(cls, stored: bytes) -> Self:
        """Raises UnknownModel."""
        try:
            with zipfile.ZipFile(io.BytesIO(stored)) as archive:
                document = json.loads(archive.read("risk.json"))
                if document["format"] != FORMAT:
                    raise UnknownModel(
                        f"a risk model of format {document['format']}; this version reads {FORMAT}: train anew"
                    )
                members = {name: Trees.from_bytes(archive.read(f"{name}.npz")) for name in document["weights"]}
            return cls(
                names=tuple(document["names"]),
                costs=Costs(*document["costs"]),
                members=members,
                weights=document["weights"],
                bias=document["bias"],
                thresholds=document["thresholds"],
                trained_on=document["trained_on"],
            )
        except (zipfile.BadZipFile, KeyError, ValueError, TypeError) as error:
            raise UnknownModel(f"these bytes are no risk model ({error}); train anew") from error


def cold_start(past: History, slo_s: float, costs: Costs) -> Floats:
    """[N] probability of a spike within 600 s from the fluid outlook alone, for a service without a trained model."""
    found = features(past, slo_s, costs)
    return cold_probability(found["fluid_utilisation"], past.replicas)


def cold_probability(utilisation: Floats, replicas: Floats) -> Floats:
    """utilisation: largest load / capacity ahead.

    Chance alone takes a pool of n replicas beyond its capacity in proportion to 1 / sqrt(n), so what is over counts by sqrt(n):
    without this, thresholds do not carry over between sizes.
    """
    size = np.sqrt(np.where(np.isfinite(replicas), np.maximum(replicas, 1.0), 1.0))
    return probability(_COLD_SLOPE * (utilisation - 1.0) * size + _COLD_BIAS)


def probability(logit: Floats) -> Floats:
    return 1.0 / (1.0 + np.exp(-np.clip(logit, -30.0, 30.0)))
