"""Rules of generation, epoch, hash, bounds and capabilities."""

import pytest

from inference_node.agent.desired import (
    Observed,
    Preparing,
    PushRejected,
    Verdict,
    check_bounds,
    judge,
    rejection_of,
)
from inference_node.contract.messages import NodeCapabilities, RejectCode, SettingsPush
from inference_node.contract.settings import EngineSettings, KnobBounds, Precision
from tests.support.fake_controlplane import NODE_ID, push_of

A, B = EngineSettings(max_batch_size=4), EngineSettings(max_batch_size=6)
CAPABILITIES = NodeCapabilities(
    precisions=(Precision.FP32, Precision.BF16),
    max_batch_size=16,
    max_batched_tokens=1024,
    max_model_len=256,
    kv_tokens=4096,
)


def verdict(
    push: SettingsPush,
    observed: Observed | None = None,
    preparing: Preparing | None = None,
    *,
    epoch_seen: int = 1,
    node_id: str | None = NODE_ID,
) -> Verdict:
    return judge(
        push,
        observed or Observed.of_push(push_of(A, 5), step=1),
        preparing,
        epoch_seen=epoch_seen,
        capabilities=CAPABILITIES,
        node_id=node_id,
    )


def code_of(push: SettingsPush, **given: object) -> RejectCode:
    with pytest.raises(PushRejected) as caught:
        verdict(push, **given)  # type: ignore[arg-type] # forwarded as they are
    return caught.value.code


class TestJudge:
    def test_a_newer_generation_is_applied(self) -> None:
        assert verdict(push_of(B, 6)) is Verdict.APPLY

    def test_the_same_push_again_changes_nothing(self) -> None:
        assert verdict(push_of(A, 5)) is Verdict.UNCHANGED

    def test_an_older_generation_is_stale(self) -> None:
        assert code_of(push_of(B, 4)) is RejectCode.STALE_GENERATION

    def test_the_same_generation_with_other_settings_is_a_conflict(self) -> None:
        assert code_of(push_of(B, 5)) is RejectCode.CONFLICT

    def test_a_deposed_controller_is_refused_even_with_a_newer_generation(self) -> None:
        assert code_of(push_of(B, 9, epoch=2), epoch_seen=3) is RejectCode.STALE_EPOCH

    def test_a_hash_that_does_not_fit_the_settings_is_a_conflict(self) -> None:
        assert code_of(push_of(B, 6).model_copy(update={"config_hash": "0" * 16})) is RejectCode.CONFLICT

    def test_a_push_for_another_node_is_a_conflict(self) -> None:
        assert code_of(push_of(B, 6, node_id="other")) is RejectCode.CONFLICT

    def test_a_node_without_control_plane_takes_any_id(self) -> None:
        assert verdict(push_of(B, 6, node_id="other"), node_id=None) is Verdict.APPLY

    def test_what_is_on_its_way_is_not_started_twice(self) -> None:
        assert verdict(push_of(B, 6), preparing=Preparing(6, B.content_hash())) is Verdict.PREPARING

    def test_what_is_on_its_way_makes_what_is_in_force_stale(self) -> None:
        assert code_of(push_of(A, 5), preparing=Preparing(6, B.content_hash())) is RejectCode.STALE_GENERATION

    def test_a_drifted_node_takes_the_same_push_again(self) -> None:
        drifted = Observed(settings=B, generation=5, epoch=1, config_hash=A.content_hash(), drifted=True)
        assert verdict(push_of(A, 5), drifted) is Verdict.APPLY

    def test_a_fresh_node_takes_its_first_push(self) -> None:
        assert verdict(push_of(B, 1), Observed(settings=A)) is Verdict.APPLY

    @pytest.mark.parametrize(
        ("settings", "knob", "code"),
        [
            (EngineSettings(precision=Precision.FP8), "precision", RejectCode.NOT_SUPPORTED),
            (EngineSettings.model_validate({"kv_precision": "int8"}), "kv_precision", RejectCode.NOT_SUPPORTED),
            (EngineSettings(max_batch_size=17), "max_batch_size", RejectCode.OUT_OF_BOUNDS),
            (EngineSettings(max_batched_tokens=2048), "max_batched_tokens", RejectCode.OUT_OF_BOUNDS),
        ],
    )
    def test_what_the_node_lacks_is_refused_by_name(
        self, settings: EngineSettings, knob: str, code: RejectCode
    ) -> None:
        with pytest.raises(PushRejected) as caught:
            verdict(push_of(settings, 6))
        assert (caught.value.knob, caught.value.code) == (knob, code)


class TestBounds:
    def test_an_envelope_holds_its_target(self) -> None:
        check_bounds({"max_batch_size": KnobBounds(min=2, max=4)}, A)

    @pytest.mark.parametrize(
        "bounds",
        [
            {"max_batch_size": KnobBounds(min=5, max=9)},
            {"precision": KnobBounds(min=0, max=1)},
            {"no_such_knob": KnobBounds(min=0, max=1)},
        ],
    )
    def test_a_wrong_envelope_is_refused_by_name(self, bounds: dict[str, KnobBounds]) -> None:
        with pytest.raises(PushRejected) as caught:
            check_bounds(bounds, A)
        assert caught.value.knob == next(iter(bounds))


class TestRejectionOf:
    @pytest.mark.parametrize(
        ("error", "code", "knob"),
        [
            ({"loc": ("body", "settings", "max_batch_size"), "type": "x", "msg": "m"}, RejectCode.OUT_OF_BOUNDS, True),
            (
                {"loc": ("body", "settings", "warp"), "type": "extra_forbidden", "msg": "m"},
                RejectCode.NOT_SUPPORTED,
                True,
            ),
            ({"loc": ("body", "generation"), "type": "missing", "msg": "m"}, RejectCode.INVALID, False),
            ({"loc": ("body", 3), "type": "json_invalid", "msg": "m"}, RejectCode.INVALID, False),
        ],
    )
    def test_names_the_knob_where_there_is_one(self, error: dict[str, object], code: RejectCode, knob: bool) -> None:
        rejection = rejection_of([error])
        assert rejection.code is code
        assert (rejection.knob is not None) is knob
