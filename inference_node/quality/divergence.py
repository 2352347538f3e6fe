"""How far one model's predictions lie from another's, teacher-forced: perplexity, KL divergence, same likeliest token.

Of the reference only the 64 likeliest tokens of each place are kept, and the sum of the rest: 1.5 MB instead of 600 for 3,000
tokens. Merging outcomes can only lower a KL divergence (Cover and Thomas, Elements of Information Theory, 2006, section 2.8,
data processing), so what is told is a lower bound; the perplexities are exact.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from inference_node.errors import Invalid
from inference_node.quality.texts import Window

TOP = 64
_TINY = 1e-12

# A window's tokens to logits [T, V] fp32, row t being what follows tokens[: t + 1].
Predict = Callable[[Window], Tensor]
# Called after each window with the share that is done; may raise to give up.
Progress = Callable[[float], None]


class NotMeasurable(Invalid):
    """The model says nothing that could be compared, such as logits that are no numbers."""


@dataclass(frozen=True, slots=True)
class Reference:
    """What full precision predicts. places: [N, K] int32, the likeliest tokens, best first; logprobs: [N, K] fp32 of them;
    chosen: [N] fp32, of the tokens that really follow. N counts the predicted tokens of all windows."""

    places: Tensor
    logprobs: Tensor
    chosen: Tensor

    @property
    def perplexity(self) -> float:
        return _perplexity(self.chosen)

    def save(self, path: Path) -> None:
        """Writes beside and renames. Raises OSError."""
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".new")
        save_file({"places": self.places, "logprobs": self.logprobs, "chosen": self.chosen}, beside)
        beside.replace(path)

    @classmethod
    def load(cls, path: Path, tokens: int) -> "Reference | None":
        """None when there is none, it is damaged, or it is not of that many predicted tokens."""
        try:
            held = load_file(path)
            reference = cls(held["places"], held["logprobs"], held["chosen"])
        except (OSError, SafetensorError, KeyError):
            return None
        return reference if len(reference.chosen) == tokens else None


@dataclass(frozen=True, slots=True)
class Figures:
    """A candidate against the reference; fields as in the contract's QualityRecord."""

    tokens: int
    perplexity: float
    perplexity_ratio: float
    perplexity_ratio_error: float
    kl_mean: float
    kl_p99: float
    top1_agreement: float


@dataclass(frozen=True, slots=True)
class Places:
    """A candidate against the reference at each of N places. chosen: [N] fp64, log-probability of the token that really follows;
    divergences: [N] fp64, nats; same: [N] bool, whether the likeliest token is the same."""

    chosen: Tensor
    divergences: Tensor
    same: Tensor


def num_predicted(windows: Sequence[Window]) -> int:
    """Tokens with one before them."""
    return sum(len(window) - 1 for window in windows)


def look_up(windows: Sequence[Window], predict: Predict, progress: Progress = lambda share: None) -> Reference:
    """Runs the reference over the windows. Raises NotMeasurable."""
    places, logprobs, chosen = [], [], []
    for row, following in _rows(windows, predict, progress):
        best = row.topk(min(TOP, len(row)))
        places.append(best.indices.int())
        logprobs.append(best.values)
        chosen.append(row[following])
    return Reference(torch.stack(places), torch.stack(logprobs), torch.stack(chosen))


def compare(
    reference: Reference, windows: Sequence[Window], predict: Predict, progress: Progress = lambda share: None
) -> Figures:
    """Runs a candidate over the windows that the reference was made from. Raises NotMeasurable."""
    seen = held_against(reference, windows, predict, progress)
    perplexity = _perplexity(seen.chosen)
    # The ratio is e to the mean of what each token lost, so its standard error is that mean's, times the ratio.
    lost = reference.chosen.double() - seen.chosen
    ratio = perplexity / reference.perplexity
    return Figures(
        tokens=len(seen.chosen),
        perplexity=perplexity,
        perplexity_ratio=ratio,
        perplexity_ratio_error=ratio * float(lost.std(correction=0)) / math.sqrt(len(seen.chosen)),
        kl_mean=float(seen.divergences.mean()),
        kl_p99=float(torch.quantile(seen.divergences, 0.99)),
        top1_agreement=float(seen.same.double().mean()),
    )


def held_against(
    reference: Reference, windows: Sequence[Window], predict: Predict, progress: Progress = lambda share: None
) -> Places:
    """`compare`, place by place. Raises NotMeasurable."""
    chosen, seen, likeliest = [], [], []
    for number, (row, following) in enumerate(_rows(windows, predict, progress)):
        chosen.append(row[following])
        seen.append(row[reference.places[number].long()])
        likeliest.append(row.topk(1).indices)
    return Places(
        chosen=torch.stack(chosen).double(),
        divergences=_divergences(reference.logprobs.double(), torch.stack(seen).double()),
        same=torch.cat(likeliest) == reference.places[:, 0],
    )


def _rows(windows: Sequence[Window], predict: Predict, progress: Progress) -> Iterator[tuple[Tensor, int]]:
    """Log-probabilities [V] and the token that follows, place by place.

    One row at a time on purpose: torch then computes on the calling thread alone, and leaves the cores to the engine.
    """
    for number, window in enumerate(windows):
        logits = predict(window)
        for place, following in enumerate(window[1:]):
            row = functional.log_softmax(logits[place], dim=-1)
            if not math.isfinite(float(row[following])):
                raise NotMeasurable(f"token {place} of text {number} got a probability that is no number, or zero")
            yield row, following
        progress((number + 1) / len(windows))


def _perplexity(chosen: Tensor) -> float:
    # Beyond e^600 a double ends, and the answers are no better than noise anyway.
    return math.exp(min(-float(chosen.double().mean()), 600.0))


def _divergences(reference: Tensor, candidate: Tensor) -> Tensor:
    """KL(reference || candidate) for each place, from log-probabilities [N, K] of the same tokens; the rest is one outcome."""
    mass, other = reference.exp(), candidate.exp()
    rest, other_rest = (1 - mass.sum(1)).clamp(min=_TINY), (1 - other.sum(1)).clamp(min=_TINY)
    head = (mass * (reference - candidate.clamp(min=math.log(_TINY)))).sum(1)
    return (head + rest * (rest / other_rest).log()).clamp(min=0)
