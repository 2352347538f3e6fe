"""Logits to tokens: greedy, or one draw per row that depends on that row alone."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from inference_node.scheduling.sampling_params import SamplingParams

# Sorting 49,152 logits takes 2 ms, taking the best 1,024 a tenth of that; nearly always they hold top_p of the mass.
_HEAD = 1024


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """One row: how to choose, the answer so far (for penalties and the draw's number), and the seed of its draws."""

    params: SamplingParams
    generated: Sequence[int]
    seed: int

    @property
    def takes_likeliest(self) -> bool:
        """Whether its token is the one with the largest logit, and nothing else is asked."""
        return self.params.is_greedy and not self.params.has_penalties and self.params.logprobs is None


@dataclass(frozen=True, slots=True)
class SampledToken:
    """`logprob` and `top` (id, log probability, falling) only when the request asked for logprobs."""

    token_id: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


@torch.inference_mode()
def sample(logits: Tensor, requests: Sequence[SampleRequest]) -> list[SampledToken]:
    """logits: [R, V] fp32, one row a request; changed in place by penalties. Raises ValueError when a row holds no number."""
    greedy = logits.argmax(dim=-1).tolist()
    return [
        pick(greedy[row], float(logits[row, greedy[row]]))
        if request.takes_likeliest
        else _sample_row(logits[row], request, greedy[row])
        for row, request in enumerate(requests)
    ]


def uniform(seed: int, index: int) -> float:
    """The draw number `index` of a request, in [0, 1): a hash, so it is the same after preemption and in any batch."""
    digest = hashlib.blake2b(f"{seed}:{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2.0**64


def pick(token: int, logit: float) -> SampledToken:
    """The likeliest token of a row. Raises ValueError when its logit is no number."""
    _check(logit)
    return SampledToken(token)


def _check(value: float) -> None:
    # argmax finds a NaN when there is one; an answer must not be made of it.
    if value != value or value in (float("inf"), float("-inf")):
        raise ValueError("the model's output is not a number; its weights are damaged or overflow in this precision")


def _sample_row(row: Tensor, request: SampleRequest, token: int) -> SampledToken:
    params = request.params
    _check(float(row[token]))
    if params.has_penalties and request.generated:
        _penalize(row, request.generated, params)
        token = int(row.argmax())
    if not params.is_greedy:
        token = _draw(row, params, uniform(request.seed, len(request.generated)))
    if params.logprobs is None:
        return SampledToken(token)
    scores = row.log_softmax(dim=-1)
    top: tuple[tuple[int, float], ...] = ()
    if params.logprobs:
        values, ids = scores.topk(params.logprobs)
        top = tuple(zip(ids.tolist(), values.tolist(), strict=True))
    return SampledToken(token, float(scores[token]), top)


def _penalize(row: Tensor, generated: Sequence[int], params: SamplingParams) -> None:
    """Presence and frequency penalties as OpenAI's API reference defines them: over generated tokens, off the logits."""
    ids, counts = torch.unique(torch.tensor(generated), return_counts=True)
    row[ids] -= params.presence_penalty + params.frequency_penalty * counts.to(row.dtype)


def _draw(row: Tensor, params: SamplingParams, at: float) -> int:
    """Inverse of the cumulated distribution at `at`, after temperature, top_k, top_p and min_p, in that order."""
    scaled = row.double() / params.temperature
    if params.top_k == 0 and params.top_p >= 1.0 and params.min_p == 0.0:
        return _invert(scaled.softmax(-1), at)
    probabilities, ids = _filtered(scaled, params)
    return int(ids[_invert(probabilities, at)])


def _filtered(scaled: Tensor, params: SamplingParams) -> tuple[Tensor, Tensor]:
    vocabulary = scaled.shape[-1]
    whole = scaled.softmax(-1)
    count = min(params.top_k or vocabulary, vocabulary)
    head = min(count, _HEAD)
    probabilities, ids = whole.topk(head)
    # top_p and min_p look at the distribution that top_k left over.
    total = float(probabilities.sum()) if head == count else 1.0
    if head < count and not _is_enough(probabilities, params):
        probabilities, ids = whole.sort(descending=True)
        probabilities, ids = probabilities[:count], ids[:count]
        total = float(probabilities.sum())
    before = probabilities.cumsum(-1) - probabilities
    keep = before < params.top_p * total
    keep &= probabilities >= params.min_p * probabilities[0]
    keep[0] = True
    return probabilities[keep], ids[keep]


def _is_enough(head: Tensor, params: SamplingParams) -> bool:
    """Whether no token outside the head can pass top_p or min_p; total mass is taken as 1, as no top_k is in force there."""
    if params.top_k:
        return False
    return float(head.sum()) >= params.top_p or float(head[-1]) < params.min_p * float(head[0])


def _invert(probabilities: Tensor, at: float) -> int:
    cumulated = probabilities.cumsum(-1)
    place = int(torch.searchsorted(cumulated, at * cumulated[-1], right=True))
    return min(place, probabilities.shape[-1] - 1)
