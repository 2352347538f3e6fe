"""Which token is chosen, and that a draw depends on its own row alone."""

from collections import Counter
from typing import Any

import pytest
import torch

from inference_node.model.sampler import SampleRequest, sample, uniform
from inference_node.scheduling.sampling_params import SamplingParams


def request(seed: int = 0, generated: list[int] | None = None, **params: Any) -> SampleRequest:
    return SampleRequest(SamplingParams(**params), generated or [], seed)


def choose(logits: tuple[float, ...], **params: Any) -> set[int]:
    """Every token that 300 draws bring up."""
    rows = torch.tensor([logits])
    return {sample(rows.clone(), [request(seed, **params)])[0].token_id for seed in range(300)}


class TestGreedy:
    def test_takes_the_likeliest_and_of_equals_the_first(self) -> None:
        rows = torch.tensor([[0.0, 3.0, 3.0], [5.0, 1.0, 2.0]])
        tokens = sample(rows, [request(temperature=0.0), request(temperature=0.0)])
        assert [token.token_id for token in tokens] == [1, 0]

    @pytest.mark.parametrize("bad", [float("nan"), float("inf")])
    def test_an_answer_is_never_made_of_nothing(self, bad: float) -> None:
        with pytest.raises(ValueError, match="not a number"):
            sample(torch.tensor([[0.0, bad]]), [request(temperature=0.0)])


class TestFilters:
    LOGITS = (4.0, 3.0, 2.0, -1.0)  # 0.66, 0.24, 0.09, 0.004

    def test_top_k_keeps_the_best(self) -> None:
        assert choose(self.LOGITS, top_k=2) == {0, 1}

    def test_top_p_keeps_the_fewest_that_reach_it(self) -> None:
        assert choose(self.LOGITS, top_p=0.6) == {0}
        assert choose(self.LOGITS, top_p=0.8) == {0, 1}

    def test_min_p_is_relative_to_the_likeliest(self) -> None:
        assert choose(self.LOGITS, min_p=0.3) == {0, 1}

    def test_a_low_temperature_is_nearly_greedy(self) -> None:
        assert choose(self.LOGITS, temperature=0.05) == {0}

    def test_top_p_over_a_flat_vocabulary_larger_than_the_sorted_head(self) -> None:
        rows = torch.zeros(1, 5000)
        found = {sample(rows.clone(), [request(seed, top_p=0.9)])[0].token_id for seed in range(400)}
        assert len(found) > 350

    def test_frequencies_follow_the_distribution(self) -> None:
        rows = torch.tensor([[0.0, 1.0]])
        counts = Counter(sample(rows.clone(), [request(seed)])[0].token_id for seed in range(4000))
        assert counts[1] / 4000 == pytest.approx(0.731, abs=0.03)


class TestSeed:
    def test_does_not_depend_on_batch_mates(self) -> None:
        rows = torch.randn(8, 50, generator=torch.Generator().manual_seed(0))
        together = sample(rows.clone(), [request(seed) for seed in range(8)])
        alone = [sample(rows[i : i + 1].clone(), [request(i)])[0] for i in range(8)]
        assert together == alone

    def test_draws_differ_by_place_and_seed(self) -> None:
        assert len({uniform(seed, index) for seed in range(20) for index in range(20)}) == 400
        assert all(0 <= uniform(7, index) < 1 for index in range(1000))


class TestPenalties:
    def test_frequency_counts_and_presence_does_not(self) -> None:
        rows = torch.tensor([[2.0, 1.9, 0.0]])
        once = sample(rows.clone(), [request(generated=[0], temperature=0.0, presence_penalty=0.5)])
        assert once[0].token_id == 1
        kept = sample(rows.clone(), [request(generated=[1, 1, 1], temperature=0.0, frequency_penalty=0.5)])
        assert kept[0].token_id == 0

    def test_reported_logprobs_are_after_penalties_and_before_temperature(self) -> None:
        rows = torch.tensor([[2.0, 1.0]])
        token = sample(rows, [request(generated=[0], temperature=0.0, presence_penalty=2.0, logprobs=2)])[0]
        assert token.token_id == 1
        expected = torch.tensor([0.0, 1.0]).log_softmax(-1)
        assert token.logprob == pytest.approx(float(expected[1]))
        assert [i for i, _ in token.top] == [1, 0]
