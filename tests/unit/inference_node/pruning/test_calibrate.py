"""Learning cut-offs from a model whose weak places are known."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from inference_node.pruning.calibrate import learn, load_or_learn
from inference_node.pruning.observe import Observer
from inference_node.pruning.prune import Pruner
from inference_node.pruning.thresholds import SITES, PruningTable, Site

TOKENS = list(range(200))
WEIGHTS = (100, 50, 400, 200)


class FakeModel:
    """Activations of one kind at all sites; only `tender` ones move the logits."""

    def __init__(self, num_layers: int, tender: dict[tuple[int, Site], float]) -> None:
        self.num_layers, self.tender, self.passes = num_layers, tender, 0

    def run(self, tokens: Sequence[int], hook: Observer | Pruner | None) -> Tensor:
        self.passes += 1
        generator = torch.Generator().manual_seed(3)
        logits = torch.zeros(len(tokens), 32)
        if hook is not None:
            hook.begin(len(tokens))
        for layer in range(self.num_layers):
            for site in SITES:
                x = torch.randn(len(tokens), 32, generator=generator)
                logits += self.tender.get((layer, site), 0.02) * (x if hook is None else hook(layer, site, x))
        return logits


class TestLearn:
    def test_what_hurts_is_spared(self) -> None:
        model = FakeModel(3, {(1, Site.MLP_IN): 2.0})
        shares = learn(model.run, TOKENS, WEIGHTS, 3).shares(0.3)
        tender = shares[1, SITES.index(Site.MLP_IN)]
        assert float(tender) < 0.1 < float(shares[0, SITES.index(Site.MLP_IN)])

    @pytest.mark.parametrize("rate", [0.1, 0.25, 0.4, 0.7])
    def test_the_rate_is_of_weights_and_is_met(self, rate: float) -> None:
        model = FakeModel(3, {(1, Site.MLP_IN): 1.0, (0, Site.ATTENTION_IN): 0.5})
        table = learn(model.run, TOKENS, WEIGHTS, 3)
        pruner = Pruner(table.cutoffs(rate), table.weights)
        model.run(TOKENS, pruner)
        assert pruner.ratio == pytest.approx(rate, abs=0.01)

    def test_a_large_model_takes_no_more_passes_than_it_can_afford(self) -> None:
        model = FakeModel(6, {})
        learn(model.run, TOKENS, [10**10] * 4, 6)
        assert model.passes == 2 + len(SITES)

    def test_a_text_shorter_than_the_probe_will_do(self) -> None:
        table = learn(FakeModel(2, {}).run, TOKENS[:20], WEIGHTS, 2)
        assert bool(torch.isfinite(table.cutoffs(0.5)).all())


class TestLoadOrLearn:
    def test_learns_once_and_again_when_the_file_is_damaged(self, tmp_path: Path) -> None:
        model, path = FakeModel(2, {}), tmp_path / "table.safetensors"

        def ask() -> PruningTable:
            def learned() -> PruningTable:
                return learn(model.run, TOKENS, WEIGHTS, 2)

            return load_or_learn(path, fingerprint="m", num_layers=2, learn=learned)

        first, passes = ask(), model.passes
        assert torch.equal(ask().cutoffs(0.4), first.cutoffs(0.4)) and model.passes == passes
        path.write_bytes(b"half a file")
        assert torch.equal(ask().cutoffs(0.4), first.cutoffs(0.4)) and model.passes == 2 * passes

    def test_a_folder_that_cannot_be_written_is_no_reason_to_fail(self, tmp_path: Path) -> None:
        model = FakeModel(2, {})
        (tmp_path / "file").write_text("")
        table = load_or_learn(
            tmp_path / "file" / "table",
            fingerprint="m",
            num_layers=2,
            learn=lambda: learn(model.run, TOKENS, WEIGHTS, 2),
        )
        assert table.num_layers == 2
