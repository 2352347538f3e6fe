"""What a change of the format of keys and values needs before it may come into force."""

from pathlib import Path
from typing import Any

import pytest
import torch

from inference_node.contract.messages import NodeCapabilities, RejectCode
from inference_node.contract.settings import EngineSettings, KvPrecision, Precision
from inference_node.engine.errors import SettingsRefused
from inference_node.engine.reconfigure import Reconfigurer
from inference_node.model import device
from inference_node.model.backend import build, describe, supported_kv_precisions, why_not_kv
from inference_node.model.checkpoint import Checkpoint
from inference_node.model.device import Gpu
from tests.support.models import save_tiny_model

NARROW = EngineSettings(precision=Precision.BF16, kv_precision=KvPrecision.FP8)


class Runner:
    """Of a runner, what preparing asks: it keeps other pages beside those in use, of so many bytes."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.begun: list[KvPrecision] = []

    def ready_for(self, store: object, kv: KvPrecision) -> bool:
        return kv is KvPrecision.MODEL or kv in self.begun

    def room_for(self, kv: KvPrecision) -> int:
        return self.room

    def begin(self, store: object, kv: KvPrecision) -> None:
        self.begun.append(kv)


@pytest.fixture
def reconfigurer(tmp_path: Path) -> Reconfigurer:
    folder = save_tiny_model(tmp_path / "model")
    spec, checkpoint = describe(folder), Checkpoint.open(folder)
    capabilities = NodeCapabilities(
        precisions=(Precision.BF16,), max_batch_size=8, max_batched_tokens=256, max_model_len=128, kv_tokens=512
    )
    made = Reconfigurer(checkpoint, spec, capabilities, calibration_dir=tmp_path, calibration_tokens=[1, 2, 3])
    made.adopt(build(checkpoint, spec, Precision.BF16))
    return made


def test_other_pages_are_begun_before_they_count_as_ready(reconfigurer: Reconfigurer) -> None:
    runner: Any = Runner(room=1)
    assert reconfigurer.is_ready(EngineSettings(precision=Precision.BF16), runner)
    assert not reconfigurer.is_ready(NARROW, runner)
    reconfigurer.prepare(NARROW, runner, Precision.BF16, lambda: True)
    assert runner.begun == [KvPrecision.FP8]
    assert reconfigurer.is_ready(NARROW, runner)
    assert reconfigurer.numerics(NARROW).kv is KvPrecision.FP8


def test_pages_that_do_not_fit_beside_those_in_use_are_refused_with_the_way_out(reconfigurer: Reconfigurer) -> None:
    runner: Any = Runner(room=1 << 60)
    with pytest.raises(SettingsRefused, match="NODE_KV_TOKENS") as caught:
        reconfigurer.prepare(NARROW, runner, Precision.BF16, lambda: True)
    assert (caught.value.code, caught.value.knob) == (RejectCode.OUT_OF_MEMORY, "kv_precision")
    assert runner.begun == []


def test_memory_that_runs_out_while_it_is_prepared_is_a_refusal_and_the_next_try_starts_anew(
    reconfigurer: Reconfigurer,
) -> None:
    runner: Any = Runner(room=1)
    begin, runner.begin = runner.begin, _out_of_memory
    with pytest.raises(SettingsRefused, match=r"fp8.*Tried to allocate 2.00 GiB.*NODE_KV_TOKENS") as caught:
        reconfigurer.prepare(NARROW, runner, Precision.BF16, lambda: True)
    assert (caught.value.code, caught.value.knob) == (RejectCode.OUT_OF_MEMORY, "kv_precision")
    assert not reconfigurer.is_ready(NARROW, runner)
    assert reconfigurer.is_ready(EngineSettings(precision=Precision.BF16), runner)
    runner.begin = begin
    reconfigurer.prepare(NARROW, runner, Precision.BF16, lambda: True)
    assert reconfigurer.is_ready(NARROW, runner)


def _out_of_memory(store: object, kv: KvPrecision) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory: Tried to allocate 2.00 GiB. GPU 0 has 1.00 GiB free.")


@pytest.mark.parametrize(
    ("capability", "forms"), [((9, 0), ("model", "fp8")), ((8, 9), ("model", "fp8")), ((8, 0), ("model",))]
)
def test_gpus_with_e4m3_keep_keys_and_values_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], forms: tuple[str, ...]
) -> None:
    spec = describe(save_tiny_model(tmp_path / "model"))
    card = Gpu("a card", capability, multiprocessors=100, memory_bytes=1 << 36, cuda="13.0")
    monkeypatch.setattr(device, "gpu_in_use", lambda: card)
    assert tuple(form.value for form in supported_kv_precisions(spec)) == forms
    assert "fp8" in str(why_not_kv(spec, Precision.BF16, KvPrecision.INT8))
    if capability < (8, 9):
        assert "8.9" in str(why_not_kv(spec, Precision.BF16, KvPrecision.FP8))
