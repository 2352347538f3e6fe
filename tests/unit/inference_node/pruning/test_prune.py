"""What is cut, what is seen, and what is counted."""

import pytest
import torch
from torch import Tensor

from inference_node.pruning.observe import Observer
from inference_node.pruning.prune import Pruner
from inference_node.pruning.thresholds import SHARES, SITES, Site


def shown(observer: Observer, num_layers: int, rows: int = 150) -> dict[tuple[int, Site], Tensor]:
    generator = torch.Generator().manual_seed(0)
    seen = {
        (i, site): (i + 1) * torch.randn(rows, 64, generator=generator) for i in range(num_layers) for site in SITES
    }
    observer.begin(rows)
    for (layer, site), x in seen.items():
        assert observer(layer, site, x) is x
    return seen


class TestObserver:
    @pytest.mark.parametrize("share", [0.025, 0.3, 0.5, 0.7])
    def test_its_quantiles_cut_the_share_they_stand_for_at_every_site(self, share: float) -> None:
        observer = Observer(2)
        seen = shown(observer, 2)
        pruner = Pruner(observer.quantiles()[:, :, SHARES.index(share)])
        pruner.begin(150)
        for (layer, site), x in seen.items():
            kept = pruner(layer, site, x)
            assert 1 - kept.count_nonzero() / kept.numel() == pytest.approx(share, abs=0.001)
        assert pruner.ratio == pytest.approx(share, abs=0.001)

    def test_errors_are_the_energy_that_goes(self) -> None:
        observer = Observer(1)
        observer.begin(1)
        for site in SITES:
            observer(0, site, torch.tensor([[3.0, -1.0, 2.0, 0.5]]))
        errors = observer.errors()[0, 0]
        assert errors[SHARES.index(0.25)] == pytest.approx(0.25 / 14.25)
        assert errors[SHARES.index(0.5)] == pytest.approx(1.25 / 14.25)
        assert errors[0] == 0 and bool((errors.diff() >= 0).all())

    def test_padding_and_the_first_rows_are_not_looked_at(self) -> None:
        observer = Observer(1, skip=1)
        observer.begin(3)
        for site in SITES:
            observer(0, site, torch.tensor([[900.0, 900.0], [1.0, 2.0], [1.0, 2.0], [700.0, 700.0]]))
        assert float(observer.quantiles().max()) == 2.0

    def test_a_long_text_is_thinned_evenly(self) -> None:
        observer = Observer(1)
        rows = torch.arange(10_000, dtype=torch.float32).unsqueeze(1)
        observer.begin(10_000)
        for site in SITES:
            observer(0, site, rows)
        middle = observer.quantiles()[0, 0, SHARES.index(0.5)]
        assert float(middle) == pytest.approx(5000, abs=100)

    def test_zeros_everywhere_are_no_error(self) -> None:
        observer = Observer(1)
        observer.begin(2)
        for site in SITES:
            observer(0, site, torch.zeros(2, 4))
        assert not observer.errors().any() and not observer.quantiles().any()


class TestPruner:
    def test_padding_rows_are_not_counted(self) -> None:
        pruner = Pruner(torch.ones(1, 4))
        pruner.begin(rows=1)
        for site in SITES:
            pruner(0, site, torch.tensor([[0.5, 2.0], [0.0, 0.0]]))
        assert pruner.ratio == 0.5

    def test_a_site_counts_by_the_weights_behind_it(self) -> None:
        pruner = Pruner(torch.ones(1, 4), torch.tensor([[0.1, 0.2, 0.3, 0.4]]))
        pruner.begin(rows=1)
        for site in SITES:
            pruner(0, site, torch.tensor([[0.5, 2.0]]) if site is Site.MLP_IN else torch.tensor([[3.0, 2.0]]))
        assert pruner.ratio == pytest.approx(0.15)

    def test_counts_of_a_kernel_stand_in_for_its_own(self) -> None:
        pruner = Pruner(torch.ones(2, 4), torch.tensor([[0.1, 0.1, 0.1, 0.2]]).expand(2, -1))
        pruner.feed(torch.tensor([[10, 10, 10, 40], [10, 10, 10, 0]]), widths=(10, 10, 10, 20), rows=2)
        assert pruner.ratio == pytest.approx(0.15 + 0.15 + 0.2)

    def test_before_the_first_step_nothing_was_dropped(self) -> None:
        assert Pruner(torch.ones(2, 4)).ratio == 0
