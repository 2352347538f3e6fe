"""What is read off a config, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch

from inference_node.model.errors import ModelInvalid, ModelNotFound, ModelUnsupported
from inference_node.model.spec import ModelSpec, inverse_frequencies

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 100,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}


class TestFromConfig:
    def test_fills_in_what_old_configs_leave_out(self) -> None:
        spec = ModelSpec.from_config(CONFIG)
        assert (spec.num_key_heads, spec.head_dim, spec.tied_head, spec.qkv_bias) == (4, 16, False, False)
        assert dict(spec.rope) == {"rope_theta": 10_000.0, "rope_type": "default"}

    def test_qwen2_has_biases_at_qkv_only(self) -> None:
        spec = ModelSpec.from_config(CONFIG | {"model_type": "qwen2"})
        assert spec.qkv_bias and not spec.output_bias

    def test_end_tokens_come_from_both_files(self) -> None:
        spec = ModelSpec.from_config(CONFIG | {"eos_token_id": 2}, {"eos_token_id": [2, 7]})
        assert spec.eos_token_ids == {2, 7}

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"model_type": "gpt2"}, "'gpt2' are not supported; this engine runs: llama, mistral, qwen2, qwen3"),
            ({"hidden_act": "gelu"}, "'gelu'"),
            ({"rope_scaling": {"type": "yarn", "factor": 4}}, "'yarn'"),
            ({"quantization_config": {"bits": 4}}, "already quantized"),
            ({"model_type": "mistral", "sliding_window": 4096}, "sliding-window"),
            ({"partial_rotary_factor": 0.5}, "partial rotary"),
        ],
    )
    def test_refuses_what_it_cannot_run(self, change: dict[str, Any], says: str) -> None:
        with pytest.raises(ModelUnsupported, match=says):
            ModelSpec.from_config(CONFIG | change)

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"num_key_value_heads": 3}, "do not fit together"),
            ({"hidden_size": "many"}, "wrong kind"),
            ({"num_hidden_layers": 0}, "below 1"),
        ],
    )
    def test_refuses_sizes_that_make_no_model(self, change: dict[str, Any], says: str) -> None:
        with pytest.raises(ModelInvalid, match=says):
            ModelSpec.from_config(CONFIG | change)

    def test_names_what_is_missing(self) -> None:
        with pytest.raises(ModelInvalid, match="lacks 'vocab_size'"):
            ModelSpec.from_config({k: v for k, v in CONFIG.items() if k != "vocab_size"})


class TestFromFolder:
    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(ModelNotFound, match="is no folder"):
            ModelSpec.from_folder(tmp_path / "nothing")

    def test_a_folder_that_is_no_model(self, tmp_path: Path) -> None:
        with pytest.raises(ModelNotFound, match=r"holds no config\.json"):
            ModelSpec.from_folder(tmp_path)

    def test_a_config_that_is_no_json(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text("{")
        with pytest.raises(ModelInvalid, match="not readable JSON"):
            ModelSpec.from_folder(tmp_path)


class TestInverseFrequencies:
    def test_linear_scaling_slows_all_alike(self) -> None:
        plain = inverse_frequencies(ModelSpec.from_config(CONFIG))
        slow = inverse_frequencies(ModelSpec.from_config(CONFIG | {"rope_scaling": {"type": "linear", "factor": 4.0}}))
        torch.testing.assert_close(slow * 4, plain)
