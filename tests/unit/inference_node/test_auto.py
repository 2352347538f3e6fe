"""The Python door, up to where it opens."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from inference_node.auto import AutoInferenceEngine
from inference_node.config import ConfigInvalid
from inference_node.contract.settings import Precision


class TestAutoInferenceEngine:
    def test_methods_chain_and_gather_settings(self, tmp_path: Path) -> None:
        made = AutoInferenceEngine.from_pretrained(tmp_path).quantize(mode="int8").tune(max_batch_size=16)
        assert made.config.model == tmp_path
        assert (made.config.precision, made.settings.max_batch_size) == (Precision.INT8, 16)

    def test_auto_is_left_to_the_loaded_model(self, tmp_path: Path) -> None:
        assert AutoInferenceEngine.from_pretrained(tmp_path).quantize().config.precision == "auto"

    def test_refuses_a_mode_it_does_not_have(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigInvalid, match="auto, fp32, bf16, int8, int4"):
            AutoInferenceEngine.from_pretrained(tmp_path).quantize("fp4")  # type: ignore[arg-type]  # wrong on purpose

    def test_refuses_a_knob_out_of_bounds(self, tmp_path: Path) -> None:
        with pytest.raises(ValidationError, match="max_batch_size"):
            AutoInferenceEngine.from_pretrained(tmp_path).tune(max_batch_size=0)
