"""Perplexity, divergence and agreement against what the definitions give on the whole vocabulary."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from inference_node.quality.divergence import TOP, NotMeasurable, Reference, compare, look_up, num_predicted
from inference_node.quality.texts import Window

WINDOWS: tuple[Window, ...] = ((1, 5, 2, 7, 3), (4, 4, 9))
PREDICTED = 6


class Speaker:
    """Random but repeatable logits; `noise` moves them away from those of noise 0."""

    def __init__(self, vocabulary: int, noise: float = 0.0) -> None:
        self._vocabulary, self._noise = vocabulary, noise

    def __call__(self, window: Window) -> Tensor:
        source = torch.Generator().manual_seed(sum(window))
        logits = 3 * torch.randn(len(window), self._vocabulary, generator=source)
        return logits + self._noise * torch.randn(logits.shape, generator=source)


def _whole(speaker: Speaker) -> tuple[Tensor, Tensor]:
    """Log-probabilities [N, V] and following tokens [N]."""
    rows = torch.cat([speaker(window)[:-1] for window in WINDOWS]).double().log_softmax(-1)
    return rows, torch.tensor([token for window in WINDOWS for token in window[1:]])


class TestCompare:
    def test_a_model_is_as_good_as_itself(self) -> None:
        speaker = Speaker(300)
        found = compare(look_up(WINDOWS, speaker), WINDOWS, speaker)

        assert found.tokens == num_predicted(WINDOWS) == PREDICTED
        assert (found.perplexity_ratio, found.kl_mean, found.kl_p99, found.top1_agreement) == (1.0, 0.0, 0.0, 1.0)

    def test_equals_the_definitions_where_the_vocabulary_is_kept_whole(self) -> None:
        one, other = Speaker(TOP), Speaker(TOP, noise=1.0)
        found = compare(look_up(WINDOWS, one), WINDOWS, other)

        (p, chosen), (q, _) = _whole(one), _whole(other)
        picked = chosen[:, None]
        divergence = (p.exp() * (p - q)).sum(1)
        assert found.perplexity == pytest.approx(math.exp(-float(q.gather(1, picked).mean())), rel=1e-5)
        ratio = math.exp(float((p.gather(1, picked) - q.gather(1, picked)).mean()))
        assert found.perplexity_ratio == pytest.approx(ratio, rel=1e-5)
        lost = (p - q).gather(1, picked)
        assert found.perplexity_ratio_error == pytest.approx(
            ratio * float(lost.std(correction=0)) / math.sqrt(PREDICTED), rel=1e-4
        )
        assert found.kl_mean == pytest.approx(float(divergence.mean()), rel=1e-4)
        assert found.kl_p99 == pytest.approx(float(torch.quantile(divergence, 0.99)), rel=1e-4)
        assert found.top1_agreement == pytest.approx(float((p.argmax(1) == q.argmax(1)).double().mean()))

    def test_is_a_near_lower_bound_where_only_the_head_is_kept(self) -> None:
        one, other = Speaker(400), Speaker(400, noise=0.5)
        found = compare(look_up(WINDOWS, one), WINDOWS, other)

        (p, _), (q, _) = _whole(one), _whole(other)
        whole = float((p.exp() * (p - q)).sum(1).mean())
        assert 0.7 * whole < found.kl_mean < whole

    def test_a_certain_candidate_that_is_wrong_diverges_without_end_of_numbers(self) -> None:
        def certain(window: Window) -> Tensor:
            return Speaker(300)(window) * 200

        found = compare(look_up(WINDOWS, Speaker(300)), WINDOWS, certain)

        assert math.isfinite(found.kl_mean)
        assert found.kl_mean > 5

    def test_logits_that_are_no_numbers_cannot_be_measured(self) -> None:
        def broken(window: Window) -> Tensor:
            return torch.full((len(window), 300), math.nan)

        with pytest.raises(NotMeasurable, match="no number"):
            compare(look_up(WINDOWS, Speaker(300)), WINDOWS, broken)

    def test_tells_its_progress_and_can_be_given_up(self) -> None:
        shares: list[float] = []
        look_up(WINDOWS, Speaker(300), shares.append)
        assert shares == [0.5, 1.0]

        def give_up(share: float) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            look_up(WINDOWS, Speaker(300), give_up)


class TestReference:
    def test_comes_back_from_its_file(self, tmp_path: Path) -> None:
        reference = look_up(WINDOWS, Speaker(300))
        reference.save(tmp_path / "deep" / "kept.reference")

        again = Reference.load(tmp_path / "deep" / "kept.reference", PREDICTED)

        assert again is not None
        assert again.perplexity == reference.perplexity
        assert torch.equal(again.places, reference.places)
        assert torch.equal(again.logprobs, reference.logprobs)

    def test_is_not_taken_from_a_file_that_is_damaged_absent_or_of_another_text(self, tmp_path: Path) -> None:
        path = tmp_path / "kept.reference"
        assert Reference.load(path, PREDICTED) is None
        look_up(WINDOWS, Speaker(300)).save(path)
        assert Reference.load(path, PREDICTED + 1) is None
        path.write_bytes(path.read_bytes()[:40])
        assert Reference.load(path, PREDICTED) is None
