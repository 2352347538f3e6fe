"""Cut-offs: looked up for any rate, kept on disk, and told from files that are not theirs."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from inference_node.pruning.thresholds import RATES, SHARES, SITES, CalibrationInvalid, PruningTable


def made(num_layers: int = 2) -> PruningTable:
    """Quantiles that are ten times their share, and sites that all drop the rate."""
    layers = (num_layers, len(SITES))
    return PruningTable(
        quantiles=torch.tensor(SHARES).mul(10).expand(*layers, -1).clone(),
        path=torch.tensor(RATES).view(-1, 1, 1).expand(-1, *layers).clone(),
        weights=torch.full(layers, 1 / (num_layers * len(SITES))),
    )


class TestCutoffs:
    @pytest.mark.parametrize("rate", [0.0, 0.003, 0.25, 0.4, 0.687, 0.7])
    def test_any_rate_is_found_between_those_that_are_kept(self, rate: float) -> None:
        torch.testing.assert_close(made().cutoffs(rate), torch.full((2, 4), rate * 10), atol=1e-5, rtol=1e-5)

    def test_grow_with_the_rate(self) -> None:
        table = made()
        levels = torch.stack([table.cutoffs(i / 70) for i in range(50)])
        assert bool((levels.diff(dim=0) > 0).all())


class TestFile:
    def test_survives_a_round_trip_and_knows_its_model(self, tmp_path: Path) -> None:
        table, path = made(), tmp_path / "deep" / "table.safetensors"
        table.save(path, "model-1")
        found = PruningTable.load(path, "model-1", 2)
        for name in ("quantiles", "path", "weights"):
            assert torch.equal(getattr(found, name), getattr(table, name))
        assert [file.name for file in path.parent.iterdir()] == [path.name]
        with pytest.raises(CalibrationInvalid, match="another model"):
            PruningTable.load(path, "model-2", 2)
        with pytest.raises(CalibrationInvalid, match="wrong shape"):
            PruningTable.load(path, "model-1", 3)

    def test_a_damaged_file_is_told_from_a_missing_one(self, tmp_path: Path) -> None:
        path = tmp_path / "table.safetensors"
        made().save(path, "m")
        whole = path.read_bytes()
        for damaged in (b"", b"{", whole[: len(whole) // 2], bytes(len(whole)), b'{"version": 1}'):
            path.write_bytes(damaged)
            with pytest.raises(CalibrationInvalid, match="damaged"):
                PruningTable.load(path, "m", 2)
        with pytest.raises(FileNotFoundError):
            PruningTable.load(tmp_path / "none.safetensors", "m", 2)

    def test_a_tensor_that_is_missing_or_no_number_is_damage(self, tmp_path: Path) -> None:
        path = tmp_path / "table.safetensors"
        made().save(path, "m")
        note = {"version": "2", "model": "m"}
        tensors = load_file(path)
        save_file({name: tensors[name] for name in ("quantiles", "path")}, path, metadata=note)
        with pytest.raises(CalibrationInvalid, match="damaged"):
            PruningTable.load(path, "m", 2)
        save_file({**tensors, "quantiles": torch.full_like(tensors["quantiles"], torch.nan)}, path, metadata=note)
        with pytest.raises(CalibrationInvalid, match="no number"):
            PruningTable.load(path, "m", 2)
