"""Random changes: real ones, to what the node has, each knob as often as the others."""

from collections import Counter
from typing import Any

from inference_node.bench.changes import ChangeSource, values_of
from inference_node.contract.settings import EngineSettings

CAPABILITIES = {"precisions": ["fp32", "bf16", "int8"], "max_batch_size": 8, "max_batched_tokens": 512}


class TestValuesOf:
    def test_stays_within_what_the_node_has(self) -> None:
        values = values_of(CAPABILITIES, None)
        assert values["precision"] == ("bf16", "int8")
        assert max(values["max_batch_size"]) == 8 and max(values["max_batched_tokens"]) == 512

    def test_a_knob_without_a_choice_is_left_alone(self) -> None:
        assert "precision" not in values_of(CAPABILITIES, ["int8", "int4"])

    def test_all_values_are_settings(self) -> None:
        for knob, values in values_of(CAPABILITIES, None).items():
            for value in values:
                EngineSettings().replace(**{knob: value})


class TestChangeSource:
    def course(self, seed: int) -> list[tuple[str, Any]]:
        source, settings = ChangeSource(values_of(CAPABILITIES, None), seed), EngineSettings().model_dump(mode="json")
        taken = []
        for _ in range(50):
            change = source.draw(settings)
            assert settings[change.knob] != change.value
            settings[change.knob] = change.value
            taken.append((change.knob, change.value))
        return taken

    def test_every_knob_comes_equally_often(self) -> None:
        assert set(Counter(knob for knob, _ in self.course(0)).values()) == {10}

    def test_the_same_seed_gives_the_same_changes(self) -> None:
        assert self.course(1) == self.course(1) != self.course(2)

    def test_a_change_of_precision_says_from_where(self) -> None:
        source = ChangeSource({"precision": ("bf16", "int8")}, 0)
        assert source.draw({"precision": "int8"}).kind == "precision int8 to bf16"
