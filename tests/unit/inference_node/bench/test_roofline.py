"""Bytes of weights that a decode step reads."""

import json
from pathlib import Path

import pytest

from inference_node.bench.roofline import weight_bytes, weights_read
from inference_node.contract.settings import Precision
from inference_node.errors import Invalid


def write(folder: Path, shapes: dict[str, list[int]]) -> Path:
    header = {name: {"dtype": "BF16", "shape": shape, "data_offsets": [0, 0]} for name, shape in shapes.items()}
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text)
    return folder


class TestWeightsRead:
    def test_an_embedding_table_that_is_the_head_is_read(self, tmp_path: Path) -> None:
        assert weights_read(write(tmp_path, {"model.embed_tokens.weight": [10, 4], "model.norm.weight": [4]})) == 44

    def test_one_beside_a_head_is_not(self, tmp_path: Path) -> None:
        assert weights_read(write(tmp_path, {"model.embed_tokens.weight": [10, 4], "lm_head.weight": [10, 4]})) == 40

    def test_a_folder_without_weights_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(Invalid, match="safetensors"):
            weights_read(tmp_path)

    def test_bytes_by_precision(self) -> None:
        assert [weight_bytes(100, p) for p in (Precision.BF16, Precision.INT8, Precision.INT4)] == [200, 100, 50]
