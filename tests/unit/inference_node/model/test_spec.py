"""What is read off a config, and what is refused."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from inference_node.model import rope
from inference_node.model.errors import ModelInvalid, ModelNotFound, ModelUnsupported
from inference_node.model.spec import ModelSpec, read_configs

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 100,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
MISTRAL = CONFIG | {"model_type": "mistral", "num_key_value_heads": 2}


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
            (
                {"model_type": "gpt2"},
                "'gpt2' have no forward of their own here; those that do: gemma3, gemma3_text, glm, glm4",
            ),
            ({"hidden_act": "gelu"}, "hidden_act='gelu' is not supported"),
            ({"rope_scaling": {"type": "longrope", "factor": 4}}, "rope_type 'longrope'"),
            ({"quantization_config": {"bits": 4}}, "already quantized"),
            ({"partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5"),
            ({"model_type": "gemma3_text", "attn_logit_softcapping": 50.0}, "attn_logit_softcapping=50.0"),
            ({"model_type": "gemma3_text", "use_bidirectional_attention": True}, "use_bidirectional_attention"),
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
            ({"rope_scaling": {"type": "yarn"}}, "'yarn' lacks 'factor'"),
            ({"rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1}}, "lacks 'high_freq_factor'"),
            (
                {
                    "model_type": "qwen2",
                    "use_sliding_window": True,
                    "sliding_window": 8,
                    "layer_types": ["full_attention"],
                },
                "layer_types names 1 layers, num_hidden_layers is 2",
            ),
        ],
    )
    def test_refuses_sizes_that_make_no_model(self, change: dict[str, Any], says: str) -> None:
        with pytest.raises(ModelInvalid, match=says):
            ModelSpec.from_config(CONFIG | change)

    def test_names_what_is_missing(self) -> None:
        with pytest.raises(ModelInvalid, match="lacks 'vocab_size'"):
            ModelSpec.from_config({k: v for k, v in CONFIG.items() if k != "vocab_size"})


class TestReadConfigs:
    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(ModelNotFound, match="is no folder"):
            read_configs(tmp_path / "nothing")

    def test_a_folder_that_is_no_model(self, tmp_path: Path) -> None:
        with pytest.raises(ModelNotFound, match=r"holds no config\.json"):
            read_configs(tmp_path)

    def test_a_config_that_is_no_json(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text("{")
        with pytest.raises(ModelInvalid, match="not readable JSON"):
            read_configs(tmp_path)


class TestWindows:
    def test_every_layer_of_mistral_has_one_unless_it_is_null(self) -> None:
        assert ModelSpec.from_config(MISTRAL).windows == (4096, 4096)
        assert ModelSpec.from_config(MISTRAL | {"sliding_window": None}).windows == ()

    def test_a_window_as_wide_as_the_model_is_none(self) -> None:
        config = MISTRAL | {"sliding_window": 512, "max_position_embeddings": 512}
        assert ModelSpec.from_config(config).windows == ()

    def test_qwen_has_them_in_upper_layers_when_asked(self) -> None:
        config = CONFIG | {"model_type": "qwen2", "sliding_window": 64, "max_window_layers": 1}
        assert ModelSpec.from_config(config).windows == ()
        assert ModelSpec.from_config(config | {"use_sliding_window": True}).windows == (0, 64)

    def test_gemmas_every_sixth_layer_sees_everything(self) -> None:
        spec = ModelSpec.from_config({"model_type": "gemma3_text", "sliding_window": 512, "num_hidden_layers": 8})
        assert spec.windows == (512,) * 5 + (0,) + (512,) * 2
        assert [spec.window(layer) for layer in (4, 5)] == [512, 0]

    def test_layer_types_win_over_the_pattern(self) -> None:
        types = ["full_attention", "sliding_attention"]
        spec = ModelSpec.from_config(
            {"model_type": "gemma3_text", "sliding_window": 512, "num_hidden_layers": 2, "layer_types": types}
        )
        assert spec.windows == (0, 512)


class TestFamilies:
    @pytest.mark.parametrize(
        ("family", "minimal"),
        [
            # As the Hub's gemma-3-4b has it: most sizes are left to the config class.
            ("gemma3_text", {"hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34, "sliding_window": 1024,
                             "rope_scaling": {"factor": 8.0, "rope_type": "linear"}}),
            ("glm", CONFIG | {"head_dim": None}),
            ("glm4", CONFIG),
            ("llama", CONFIG),
            ("mistral", MISTRAL),
            ("qwen2", CONFIG | {"num_key_value_heads": 2}),
            ("qwen3", CONFIG | {"num_key_value_heads": 2}),
        ],
    )  # fmt: skip
    def test_silent_configs_mean_what_transformers_makes_of_them(self, family: str, minimal: dict[str, Any]) -> None:
        from transformers import AutoConfig

        written = {key: value for key, value in minimal.items() if key != "model_type"}
        whole = AutoConfig.for_model(family, **copy.deepcopy(written)).to_dict()
        ours, theirs = (ModelSpec.from_config(config | {"model_type": family}) for config in (written, whole))
        # Where old configs name no end of text, transformers has Llama's number 2; here none is assumed.
        assert replace(theirs, eos_token_ids=ours.eos_token_ids) == ours

    def test_gemma_with_vision_is_its_text_part(self) -> None:
        text = {"sliding_window": 512, "num_hidden_layers": 2, "hidden_size": 64}
        spec = ModelSpec.from_config({"model_type": "gemma3", "eos_token_id": [1, 106], "text_config": text})
        alone = ModelSpec.from_config({"model_type": "gemma3_text", "eos_token_id": [1, 106], **text})
        assert replace(spec, family="gemma3_text") == alone


def turning(config: dict[str, Any]) -> torch.Tensor:
    spec = ModelSpec.from_config(config)
    return rope.speeds(spec.rope, spec.head_dim)


class TestSpeeds:
    def test_half_of_glms_pairs_stand_still(self) -> None:
        speeds = turning(CONFIG | {"model_type": "glm", "head_dim": 16})
        assert (speeds[:4] > 0).all()
        assert (speeds[4:] == 0).all()

    def test_linear_scaling_slows_all_alike(self) -> None:
        plain = turning(CONFIG)
        slow = turning(CONFIG | {"rope_scaling": {"type": "linear", "factor": 4.0}})
        torch.testing.assert_close(slow * 4, plain)
