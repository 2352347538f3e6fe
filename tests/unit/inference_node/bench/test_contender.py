"""Who takes part, and how it is started."""

import json
from pathlib import Path

import pytest

from inference_node.bench import contender
from inference_node.bench.peers import openvino
from inference_node.bench.peers.peer import Setting
from inference_node.bench.peers.registry import PEERS, parse_peer
from inference_node.contract.settings import Precision
from inference_node.errors import Invalid


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting(tmp_path / "model", "m", tmp_path / "gguf", max_streams=32, threads=2)


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    return tmp_path / "venv"


class TestParseNumerics:
    def test_reads_a_precision_and_a_pruned_one(self) -> None:
        assert contender.parse_numerics("bf16") == (Precision.BF16, 0.0)
        assert contender.parse_numerics(" int8@0.4") == (Precision.INT8, 0.4)

    @pytest.mark.parametrize("text", ["int9", "int8@", "int8@2", "int8@x", ""])
    def test_refuses_what_is_none(self, text: str) -> None:
        with pytest.raises(Invalid, match=r"int8@0\.4"):
            contender.parse_numerics(text)


class TestOurs:
    def test_every_stream_of_the_load_can_run(self, setting: Setting, tmp_path: Path) -> None:
        entrant = contender.ours(setting, Precision.INT8, 0.4, tmp_path, {"max_batched_tokens": 1024})
        settings = json.loads(entrant.launch.command[entrant.launch.command.index("--settings") + 1])
        assert settings["max_batch_size"] == 32 and settings["max_batched_tokens"] == 1024
        assert (entrant.name, entrant.is_ours) == ("trimtab int8 pruned 0.4", True)


class TestPeers:
    @pytest.mark.parametrize("name", sorted(PEERS))
    def test_each_is_told_model_port_and_streams(
        self, name: str, setting: Setting, venv: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        peer = PEERS[name]
        file = setting.model
        if name.startswith("openvino"):  # reads a converted file of the model instead of its folder
            file = setting.gguf_dir / "m.gguf"
            monkeypatch.setattr(openvino, "gguf_for", lambda precision, cache: file)
        launch = peer.launch(setting, peer.precisions[0], venv, 4321)
        assert launch.command[0] == str(venv / "bin" / "python")
        assert {"4321", "m", str(file), "32"} <= set(launch.command)
        assert launch.url == "http://127.0.0.1:4321"

    def test_the_two_of_openvino_differ_in_their_arithmetic_alone(
        self, setting: Setting, venv: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(openvino, "gguf_for", lambda precision, cache: Path("m.gguf"))
        one, other = (
            PEERS[name].launch(setting, Precision.INT8, venv, 1).command for name in ("openvino", "openvino-dynamic")
        )
        assert [pair for pair in zip(one, other, strict=True) if pair[0] != pair[1]] == [
            ("bf16", "f32"),
            ("default", "32"),
        ]

    def test_named_with_an_environment(self, venv: Path) -> None:
        peer, folder = parse_peer(f"vllm={venv}")
        assert (peer.name, folder) == ("vllm", venv)

    @pytest.mark.parametrize(
        ("text", "says"), [("vllm", "NAME=VENV"), ("nope=/x", "openvino"), ("vllm=/does/not/exist", "bench peers")]
    )
    def test_a_wrong_name_says_what_is_right(self, text: str, says: str) -> None:
        with pytest.raises(Invalid, match=says):
            parse_peer(text)
