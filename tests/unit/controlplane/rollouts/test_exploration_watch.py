"""When a try ends, and whether the settings are to blame."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from controlplane.decisions.decide import decide
from controlplane.decisions.decision import DecisionInputs
from controlplane.decisions.error_budget import Tally
from controlplane.decisions.policy import Policy
from controlplane.rollouts.exploration_watch import Ending, Under, ending
from controlplane.telemetry.observation import Observation, Quality
from inference_node.contract.served import ServedQuality, ServedSample
from inference_node.contract.settings import Precision
from tests.support.arms import window
from tests.support.exploring import AT, calm

BEGAN = AT - timedelta(seconds=300)


def under(**changes: Any) -> Under:
    calm_ones = tuple(window(AT - timedelta(seconds=15 * k)) for k in (2, 1, 0))
    plain = Under(
        began=BEGAN, lease_s=900.0, node_name="node-1", overtaken=None, refused=None, applied=True, restarted=False,
        reachable=True, windows=calm_ones,
    )  # fmt: skip
    return replace(plain, **changes)


def ended(of: Under, inputs: DecisionInputs | None = None) -> Ending | None:
    inputs = inputs or calm()
    return ending(of, inputs, decide(inputs))


def windows(*last: Observation) -> tuple[Observation, ...]:
    return (window(AT - timedelta(seconds=60)), *last)


class TestGoesOn:
    def test_in_a_calm_pool_within_its_lease(self) -> None:
        assert ended(under()) is None

    def test_with_one_bad_window(self) -> None:
        assert ended(under(windows=windows(window(AT, itl_s=0.9)))) is None

    def test_with_one_failed_request(self) -> None:
        assert ended(under(windows=windows(window(AT, errors=1)))) is None

    def test_while_a_window_is_missing(self) -> None:
        inputs = calm()
        missing = Observation(AT, 5.0, Quality.MISSING)
        assert ended(under(), replace(inputs, observation=missing, history=(*inputs.history[:-1], missing))) is None


class TestEnds:
    def test_with_the_lease(self) -> None:
        found = ended(under(lease_s=300.0))
        assert found == Ending(BEGAN + timedelta(seconds=300), "its lease is over")

    def test_when_the_node_went_back_by_itself(self) -> None:
        went = BEGAN + timedelta(seconds=301)
        assert ended(under(lease_s=300.0, overtaken=went, restarted=True)) == Ending(went, "its lease is over")

    @pytest.mark.parametrize(
        ("changes", "words", "unfit"),
        [
            ({"refused": "no memory"}, "refused the settings: no memory", True),
            ({"restarted": True}, "restarted", True),
            ({"restarted": True, "applied": False}, "restarted", False),
            ({"overtaken": AT}, "other settings were wished for node node-1", False),
            ({"reachable": False}, "not heard of", False),
            (
                {"windows": windows(window(AT, itl_s=0.4), window(AT, itl_s=0.5))},
                "ITL was over its objective of 0.3 s",
                True,
            ),
            (
                {"windows": windows(window(AT, ttft_s=2), window(AT, ttft_s=3))},
                "TTFT was over its objective of 1.5 s",
                True,
            ),
            ({"windows": windows(window(AT, errors=2), window(AT, errors=1))}, "3 of 63 requests failed", True),
        ],
    )
    def test_by_the_node(self, changes: dict[str, Any], words: str, unfit: bool) -> None:
        found = ended(under(**changes))
        assert found is not None
        assert words in found.why
        assert found.unfit is unfit

    def test_by_answers_that_lie_too_far_from_full_precision(self) -> None:
        far = ServedQuality(
            generation=2, precision=Precision.INT8, pruning_threshold=0.0,
            samples=tuple(ServedSample(tokens=20, kl=3.0, agreed=2) for _ in range(40)),
        )  # fmt: skip
        found = ended(under(answers=far))
        assert found is not None and found.unfit
        assert "further from full precision" in found.why

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"alarm": "PoolHot"}, "PoolHot"),
            ({"policy": Policy()}, "explores nothing any more"),
            ({"frozen_reason": "incident"}, "frozen"),
            ({"served": Tally(3600, 1000, 300, 40_000, 0, 1000, 0)}, "error budget"),
        ],
    )
    def test_by_the_pool(self, changes: dict[str, Any], words: str) -> None:
        found = ended(under(), calm(**changes))
        assert found is not None and not found.unfit
        assert words in found.why

    def test_by_a_threat(self) -> None:
        found = ended(under(), calm(load=6.0))
        assert found is not None
        assert "not calm any more (breach_predicted)" in found.why

    def test_by_a_queue_that_lasts_for_two_windows(self) -> None:
        inputs = calm()
        queueing = tuple(replace(each, waiting=4.0) for each in inputs.history)
        one = replace(inputs, history=(*inputs.history[:-1], queueing[-1]), observation=queueing[-1])
        two = replace(one, history=(*inputs.history[:-2], *queueing[-2:]))
        assert ended(under(), one) is None
        found = ended(under(), two)
        assert found is not None and not found.unfit
        assert "4 requests are waiting" in found.why

    def test_when_nothing_was_seen_for_three_windows(self) -> None:
        inputs = calm()
        blind = tuple(Observation(each.window_end, 5.0, Quality.MISSING) for each in inputs.history[-3:])
        found = ended(under(), replace(inputs, observation=blind[-1], history=(*inputs.history[:-3], *blind)))
        assert found is not None
        assert "no_data" in found.why
