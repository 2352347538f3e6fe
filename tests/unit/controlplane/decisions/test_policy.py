"""The policy document."""

from typing import Any

import pytest
from pydantic import ValidationError

from controlplane.decisions.optimizer import autonomy_of, propose
from controlplane.decisions.policy import Autonomy, OnInconclusive, Policy, demo_policy
from inference_node.contract.settings import KNOBS, EngineSettings


class TestPolicy:
    def test_survives_json(self) -> None:
        assert Policy.model_validate(Policy().to_json()) == Policy()
        assert Policy.model_validate(demo_policy().to_json()) == demo_policy()

    def test_every_knob_has_an_autonomy(self) -> None:
        assert set(Policy(autonomy={"max_batch_size": Autonomy.OFF}).autonomy) == set(KNOBS)

    def test_numerics_are_never_automatic_by_default(self) -> None:
        assert all(Policy().autonomy_of(k.name).rank < Autonomy.AUTO.rank for k in KNOBS.values() if k.changes_numerics)

    @pytest.mark.parametrize(
        ("document", "message"),
        [
            ({"autonomy": {"max_bach_size": "auto"}}, "unknown knob 'max_bach_size'"),
            (
                {"guardrails": {"bounds": {"max_batch_size": {"min": 9, "max": 3}}}},
                "max_batch_size: need 1 <= min <= max",
            ),
            ({"guardrails": {"bounds": {"max_batch_size": {"min": 1, "max": 9999}}}}, "max 9999"),
            ({"guardrails": {"bounds": {"precision": {"min": 0, "max": 1}}}}, "precision: not a numeric knob"),
            ({"slo": {"ttft_p95_s": 0}}, "greater than 0"),
            ({"slos": {}}, "Extra inputs"),
            ({"slo": {"itl_p95_s": float("nan")}}, "finite"),
        ],
    )
    def test_refuses_what_makes_no_sense_and_names_it(self, document: dict[str, object], message: str) -> None:
        with pytest.raises(ValidationError, match=message):
            Policy.model_validate(document)

    def test_the_demo_promotes_what_is_inconclusive_and_the_default_pauses(self) -> None:
        assert demo_policy().rollout.on_inconclusive is OnInconclusive.PROMOTE
        assert Policy().rollout.on_inconclusive is OnInconclusive.PAUSE


class TestPropose:
    def test_the_settings_in_force_come_first_and_nothing_twice(self) -> None:
        now = EngineSettings(max_batch_size=4)
        found = [p.settings for p in propose(now, Policy(), ())]
        assert found[0] == now
        assert len(set(found)) == len(found)
        assert {s.max_batch_size for s in found} >= {2, 3, 4, 5, 6, 8, 12, 16}

    def test_a_knob_that_is_off_stays(self) -> None:
        policy = Policy(autonomy={"max_batch_size": Autonomy.OFF})
        assert {p.settings.max_batch_size for p in propose(EngineSettings(max_batch_size=4), policy, ())} == {4}

    @pytest.mark.parametrize(
        ("beside", "is_weighed"),
        [
            ({"max_batch_size": 7}, True),
            ({"max_batch_size": 7, "max_batched_tokens": 700}, True),
            ({"max_batch_size": 4 * 100}, False),  # beyond the trust region
            ({"max_batch_size": 7, "max_queue": 17}, False),  # a knob that is not turned
            ({"max_batch_size": 7, "precision": "int4"}, False),  # not certified
            ({"max_batch_size": 7, "batch_wait_ms": 9.0}, False),  # waits are only shortened
        ],
    )
    def test_what_is_known_is_weighed_within_the_same_limits(self, beside: dict[str, Any], is_weighed: bool) -> None:
        now = EngineSettings(max_batch_size=4, max_batched_tokens=512, batch_wait_ms=2.0)
        known = now.replace(**beside)
        assert known not in {p.settings for p in propose(now, Policy(), ())}
        found = [p.settings for p in propose(now, Policy(), (), [known, known, now])]
        assert found.count(known) == is_weighed
        assert found[0] == now
        off = Policy(autonomy={"max_batch_size": Autonomy.OFF})
        assert known not in {p.settings for p in propose(now, off, (), [known])}

    def test_precision_is_proposed_only_where_certified(self) -> None:
        assert {p.settings.precision for p in propose(EngineSettings(), Policy(), ())} == {EngineSettings().precision}


class TestAutonomyOf:
    def test_is_that_of_the_most_guarded_knob(self) -> None:
        now = EngineSettings()
        assert autonomy_of(now, now.replace(max_batch_size=9), Policy()) is Autonomy.AUTO
        assert autonomy_of(now, now.replace(max_batch_size=9, precision="int8"), Policy()) is Autonomy.APPROVE
