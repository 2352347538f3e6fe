"""Cut-offs: found in the quantiles, kept on disk, and dropping what they promise."""

from pathlib import Path

import pytest
import torch

from inference_node.pruning.prune import Observer, Pruner
from inference_node.pruning.thresholds import SHARES, CalibrationInvalid, LayerCutoffs, PruningTable, Site


def observed(num_layers: int = 2, rows: int = 400) -> tuple[PruningTable, dict[tuple[int, Site], torch.Tensor]]:
    observer, seen = Observer(num_layers), {}
    observer.begin(rows)
    generator = torch.Generator().manual_seed(0)
    for layer in range(num_layers):
        for site in Site:
            seen[layer, site] = (layer + 1) * torch.randn(rows, 64, generator=generator)
            observer(layer, site, seen[layer, site])
    return observer.table(), seen


class TestPruningTable:
    @pytest.mark.parametrize("share", [0.02, 0.31, 0.5, 0.7])
    def test_drops_the_share_it_was_asked_for_at_every_site(self, share: float) -> None:
        table, seen = observed()
        pruner = Pruner(table.cutoffs(share))
        pruner.begin(400)
        for (layer, site), x in seen.items():
            kept = pruner(layer, site, x)
            assert 1 - kept.count_nonzero() / kept.numel() == pytest.approx(share, abs=0.01)
        assert pruner.ratio == pytest.approx(share, abs=0.01)

    def test_survives_a_round_trip_and_knows_its_model(self, tmp_path: Path) -> None:
        table, _ = observed()
        path = tmp_path / "deep" / "table.json"
        table.save(path, "model-1")
        assert PruningTable.load(path, "model-1", 2) == table
        with pytest.raises(CalibrationInvalid, match="another model"):
            PruningTable.load(path, "model-2", 2)
        with pytest.raises(CalibrationInvalid, match="wrong shape"):
            PruningTable.load(path, "model-1", 3)

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 1, "model": "m", "quantiles": {}}'])
    def test_a_damaged_file_is_told_from_a_missing_one(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "table.json"
        path.write_text(text)
        with pytest.raises(CalibrationInvalid, match="damaged"):
            PruningTable.load(path, "m", 2)
        with pytest.raises(FileNotFoundError):
            PruningTable.load(tmp_path / "none.json", "m", 2)

    def test_quantiles_grow_with_the_share(self) -> None:
        table, _ = observed()
        for site in Site:
            for row in table.quantiles[site]:
                assert len(row) == len(SHARES) and list(row) == sorted(row)


class TestPruner:
    def test_padding_rows_are_not_counted(self) -> None:
        pruner = Pruner((LayerCutoffs(1.0, 1.0, 1.0, 1.0),))
        pruner.begin(rows=1)
        pruner(0, Site.MLP_MIDDLE, torch.tensor([[0.5, 2.0], [0.0, 0.0]]))
        assert pruner.ratio == 0.5
