"""Damaged and missing weight files: each one clear error, before anything is loaded."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from inference_node.model.checkpoint import Checkpoint
from inference_node.model.errors import ModelInvalid, ModelNotFound


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_file({"a": torch.arange(6.0).view(2, 3), "ids": torch.arange(3)}, tmp_path / "model.safetensors")
    return tmp_path


def rewrite(file: Path, header: object) -> None:
    raw = file.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + length :])


class TestCheckpoint:
    def test_reads_a_tensor(self, folder: Path) -> None:
        assert torch.equal(Checkpoint.open(folder).read("a", (2, 3)), torch.arange(6.0).view(2, 3))

    def test_no_weights_at_all(self, tmp_path: Path) -> None:
        (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04")  # a pickle: never opened
        with pytest.raises(ModelNotFound, match=r"lacks \*\.safetensors"):
            Checkpoint.open(tmp_path)

    def test_a_shard_is_missing(self, folder: Path) -> None:
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "gone.safetensors"}}))
        with pytest.raises(ModelNotFound, match=r"gone\.safetensors"):
            Checkpoint.open(folder)

    def test_an_index_that_points_outside(self, folder: Path) -> None:
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../secret.safetensors"}}))
        with pytest.raises(ModelInvalid, match="outside its folder"):
            Checkpoint.open(folder)

    @pytest.mark.parametrize("cut", [1, 20, 100, 10_000])
    def test_a_file_that_was_cut_short(self, folder: Path, cut: int) -> None:
        file = folder / "model.safetensors"
        whole = file.read_bytes()
        file.write_bytes(whole[: max(0, len(whole) - cut)])
        with pytest.raises(ModelInvalid, match=r"model\.safetensors"):
            Checkpoint.open(folder)

    def test_a_header_length_beyond_the_file(self, folder: Path) -> None:
        file = folder / "model.safetensors"
        file.write_bytes((2**62).to_bytes(8, "little") + file.read_bytes()[8:])
        with pytest.raises(ModelInvalid, match="header length"):
            Checkpoint.open(folder)

    @pytest.mark.parametrize(
        "entry",
        [
            {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 99]},
            {"dtype": "F32", "shape": [2, -3], "data_offsets": [0, 24]},
            {"dtype": "F32", "shape": [2, 3], "data_offsets": [-4, 20]},
            {"dtype": "F32", "shape": "big", "data_offsets": [0, 24]},
            {"dtype": "F32"},
            [],
        ],
    )
    def test_an_entry_that_lies(self, folder: Path, entry: object) -> None:
        rewrite(folder / "model.safetensors", {"a": entry})
        with pytest.raises(ModelInvalid, match="damaged"):
            Checkpoint.open(folder)

    def test_another_shape_or_kind_than_asked(self, folder: Path) -> None:
        checkpoint = Checkpoint.open(folder)
        with pytest.raises(ModelInvalid, match=r"shape \[2, 3\]"):
            checkpoint.read("a", (3, 2))
        with pytest.raises(ModelInvalid, match="I64"):
            checkpoint.read("ids", (3,))
        with pytest.raises(ModelInvalid, match="no tensor 'b'"):
            checkpoint.read("b", (1,))

    def test_the_fingerprint_tells_other_weights_apart(
        self, folder: Path, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        other = tmp_path_factory.mktemp("other")
        save_file({"a": torch.zeros(2, 3, 1)}, other / "model.safetensors")
        assert Checkpoint.open(folder).fingerprint == Checkpoint.open(folder).fingerprint
        assert Checkpoint.open(folder).fingerprint != Checkpoint.open(other).fingerprint
