import subprocess
import sys

import pytest
from pydantic import ValidationError

from inference_node.contract.settings import KNOBS, LIVE_KNOBS, ApplyMode, EngineSettings, Precision

# Every knob of the design, so that dropping one is noticed.
DESIGN_KNOBS = {
    "max_batch_size": (1, 512),
    "batch_wait_ms": (0, 50),
    "max_batched_tokens": (64, 8192),
    "target_itl_ms": (0, 1000),
    "precision": None,
    "kv_precision": None,
    "pruning_threshold": (0, 0.7),
    "prefix_cache": None,
    "scheduling_policy": None,
    "max_queue": (1, 100_000),
}


class TestKnobs:
    def test_declares_every_knob_of_the_design(self) -> None:
        assert set(KNOBS) == set(DESIGN_KNOBS)

    @pytest.mark.parametrize(("name", "bounds"), [(n, b) for n, b in DESIGN_KNOBS.items() if b])
    def test_bounds_are_the_designs(self, name: str, bounds: tuple[float, float]) -> None:
        assert (KNOBS[name].minimum, KNOBS[name].maximum) == bounds

    @pytest.mark.parametrize("knob", KNOBS.values(), ids=lambda k: k.name)
    def test_each_knob_explains_itself(self, knob: object) -> None:
        assert getattr(knob, "help", "")

    def test_weights_change_in_the_background_and_the_rest_live(self) -> None:
        assert KNOBS["precision"].apply_mode is ApplyMode.BACKGROUND
        assert KNOBS["kv_precision"].apply_mode is ApplyMode.BACKGROUND
        assert set(LIVE_KNOBS) == set(KNOBS) - {"precision", "kv_precision"}


class TestEngineSettings:
    @pytest.mark.parametrize(("name", "bounds"), [(n, b) for n, b in DESIGN_KNOBS.items() if b])
    def test_refuses_a_value_beyond_its_bounds_and_names_the_knob(self, name: str, bounds: tuple[float, float]) -> None:
        for value in (bounds[0] - 1, bounds[1] + 1):
            with pytest.raises(ValidationError) as caught:
                EngineSettings.model_validate({name: value})
            assert caught.value.errors()[0]["loc"] == (name,)

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_refuses_numbers_that_are_none(self, value: float) -> None:
        with pytest.raises(ValidationError):
            EngineSettings(pruning_threshold=value)

    def test_refuses_an_unknown_knob(self) -> None:
        with pytest.raises(ValidationError, match="max_bach_size"):
            EngineSettings.model_validate({"max_bach_size": 4})

    def test_changed_names_only_what_differs(self) -> None:
        before = EngineSettings(max_batch_size=4)
        after = before.replace(max_batch_size=8, precision=Precision.INT8)
        assert before.changed(after) == {"max_batch_size": (4, 8), "precision": ("bf16", "int8")}

    def test_content_hash_follows_content(self) -> None:
        assert EngineSettings().content_hash() == EngineSettings.model_validate_json("{}").content_hash()
        assert EngineSettings(max_queue=7).content_hash() != EngineSettings().content_hash()

    def test_numerics_key_ignores_knobs_that_change_no_arithmetic(self) -> None:
        base = EngineSettings()
        assert base.replace(max_batch_size=3, prefix_cache=False).numerics_key() == base.numerics_key()
        for change in ({"precision": "int8"}, {"pruning_threshold": 0.1}, {"kv_precision": "int8"}):
            assert base.replace(**change).numerics_key() != base.numerics_key()


def test_importing_the_contract_loads_no_torch() -> None:
    code = (
        "import sys, inference_node.contract.messages, inference_node.contract.metrics;"
        "heavy = {'torch', 'transformers', 'numpy', 'fastapi', 'sqlalchemy'} & set(sys.modules);"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
