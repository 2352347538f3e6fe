"""What a try shows, on windows whose truth is known."""

import math
import random
from dataclasses import replace
from datetime import timedelta

import pytest

from controlplane.decisions.explored import Quantity, TryVerdict
from controlplane.decisions.policy import RolloutPolicy
from controlplane.rollouts.analysis import Measurement, Verdict
from controlplane.rollouts.exploration_outcome import TryOutcome, measure
from controlplane.rollouts.exploration_windows import Stretches, Windows, stretches
from controlplane.telemetry.observation import Observation, Quality
from inference_node.contract.settings import EngineSettings
from tests.support.exploring import AT, calm, exploring

TRIED = EngineSettings(max_batch_size=8)
WINDOW_S = 15.0
INPUTS = calm(policy=exploring().model_copy(update={"rollout": RolloutPolicy(settle_s=15, min_requests=20)}))


def windows(
    *,
    itl: float = 1.0,
    ttft: float = 1.0,
    step: float = 1.0,
    before: int = 20,
    during: int = 20,
    errors: float = 0.0,
    requests: float = 12.0,
    spread: float = 1.3,
    seed: int = 1,
) -> Windows:
    """Three nodes under one load that moves; the first is tried on from AT, and is `spread` times slower by nature. itl, ttft,
    step: what the try multiplies."""
    draw = random.Random(seed)
    found: dict[str, list[Observation]] = {"n1": [], "n2": [], "n3": []}
    for k in range(-before, during + 2):
        end, shared = AT + timedelta(seconds=WINDOW_S * (k + 1)), math.exp(draw.gauss(0, 0.2))
        for name, seen in found.items():
            is_tried = name == "n1" and k >= 0
            level, rows = shared * (spread if name == "n1" else 1.0), 3.0
            truth = (ttft, itl, step) if is_tried else (1.0, 1.0, 1.0)
            plain = (0.4, 0.04, INPUTS.step_times[0].at(rows, 2.0))
            figures = [
                value * level * factor * math.exp(draw.gauss(0, 0.03))
                for value, factor in zip(plain, truth, strict=True)
            ]
            seen.append(
                Observation(
                    end, WINDOW_S, Quality.OK, offered_rps=0.75, requests=requests, errors=errors if is_tried else 0.0,
                    ttft_p95_s=figures[0], itl_p95_s=figures[1], step_mean_s=figures[2], generation_tokens_per_s=36.0,
                    decode_rows_mean=rows, prefill_tokens_mean=2.0,
                )
            )  # fmt: skip
    return found


def seen(found: Windows, *, seconds: float = 315.0, settle_s: float = 15.0) -> Stretches:
    until = AT + timedelta(seconds=seconds)
    return stretches(found, "n1", began=AT, applied=AT, ended=until, settle_s=settle_s)


def outcome(**truth: float) -> TryOutcome:
    return measure(INPUTS, TRIED, seen(windows(**truth)))  # type: ignore[arg-type]  # counts among them are whole


class TestStretches:
    def test_settle_time_and_what_ended_later_are_left_out(self) -> None:
        found = seen(windows())
        assert [len(found.before), len(found.during)] == [20, 20]
        assert found.during[0].node.window_end == AT + timedelta(seconds=30)
        assert found.during[-1].node.window_end == AT + timedelta(seconds=315)

    def test_windows_that_overlap_count_once(self) -> None:
        """As with a tick of 5 s and windows of 15 s."""
        found = {
            name: [replace(each, window_s=WINDOW_S * 3) for each in of_node] for name, of_node in windows().items()
        }
        assert len(seen(found).during) in {6, 7}

    def test_a_node_that_never_had_the_settings_has_none(self) -> None:
        assert stretches(windows(), "n1", began=AT, applied=None, ended=AT, settle_s=0).during == ()

    def test_windows_without_a_peer_beside_them_are_left_out(self) -> None:
        found = dict(windows())
        found["n2"] = found["n3"] = []
        assert seen(found) == Stretches((), ())


class TestVerdict:
    @pytest.mark.parametrize(
        ("truth", "verdict"),
        [
            ({}, TryVerdict.SAME),
            ({"ttft": 0.6}, TryVerdict.BETTER),
            ({"itl": 1.4}, TryVerdict.WORSE),
            ({"itl": 1.4, "ttft": 0.5}, TryVerdict.WORSE),
            ({"errors": 4.0}, TryVerdict.WORSE),
            ({"during": 4}, TryVerdict.UNCLEAR),
            ({"before": 3}, TryVerdict.UNCLEAR),
            ({"requests": 0.4}, TryVerdict.UNCLEAR),
            ({"itl": 1.09}, TryVerdict.UNCLEAR),
        ],
    )
    def test_of_a_known_truth(self, truth: dict[str, float], verdict: TryVerdict) -> None:
        found = outcome(**truth)
        assert found.verdict is verdict, found.explanation

    def test_what_was_ended_as_harmful_is_worse_whatever_the_windows_say(self) -> None:
        found = measure(INPUTS, TRIED, seen(windows()), "node n1 restarted under the settings")
        assert (found.verdict, found.explanation) == (TryVerdict.WORSE, "node n1 restarted under the settings")

    def test_a_try_that_ended_early_is_worse_where_the_node_alone_broke_an_objective(self) -> None:
        short = seen(windows(itl=8.0, during=2), seconds=30, settle_s=60)
        assert len(short.during) == 2  # all within the settle time
        found = measure(INPUTS, TRIED, short, is_early=True)
        assert (found.verdict, "its peers'" in found.explanation) == (TryVerdict.WORSE, True)
        assert next(each for each in found.errors if each.quantity is Quantity.ITL).value > 1

    def test_even_where_no_window_was_whole(self) -> None:
        """Applied 3 s into a window, and ended 4 s before its end."""
        applied, until = AT + timedelta(seconds=3), AT + timedelta(seconds=11)
        short = stretches(windows(itl=8.0), "n1", began=AT, applied=applied, ended=until, settle_s=15)
        assert [each.node.window_end for each in short.during] == [AT + timedelta(seconds=15)]
        assert measure(INPUTS, TRIED, short, is_early=True).verdict is TryVerdict.WORSE

    def test_one_that_ended_early_for_what_all_share_tells_nothing(self) -> None:
        short = seen(windows(during=2), seconds=30, settle_s=60)
        assert measure(INPUTS, TRIED, short, is_early=True).verdict is TryVerdict.UNCLEAR

    def test_answers_that_lie_too_far_are_worse(self) -> None:
        far = Measurement("served_kl", Verdict.FAIL, detail="divergence 0.6 nats")
        assert measure(INPUTS, TRIED, seen(windows()), None, [far]).verdict is TryVerdict.WORSE

    def test_a_node_slower_by_nature_and_a_load_that_moves_make_no_verdict(self) -> None:
        """Of 40 tries that change nothing, the interval of 95 % is missed by few, and never by the margin."""
        found = [outcome(seed=seed).verdict for seed in range(40)]
        assert TryVerdict.WORSE not in found
        assert found.count(TryVerdict.BETTER) <= 6


class TestWhatIsLearned:
    def test_ratios_have_the_truth_in_their_interval(self) -> None:
        shown = {each.metric: each for each in outcome(itl=1.5, ttft=0.7).shown}
        for metric, truth in (("itl_p95_s", 1.5), ("ttft_p95_s", 0.7), ("generation_tokens_per_s", 1.0)):
            each = shown[metric]
            assert each.ratio == pytest.approx(truth, rel=0.06)
            assert each.low is not None and each.high is not None
            assert each.low <= truth <= each.high

    def test_errors_are_the_models_not_the_nodes(self) -> None:
        """Steps twice as long as the model says of their rows, on a node that is a third slower than its peers anyway."""
        found = {each.quantity: each for each in outcome(step=2.0).errors}
        assert set(found) == set(Quantity)
        assert found[Quantity.STEP].value == pytest.approx(math.log(2.0), abs=0.05)
        assert found[Quantity.STEP].sd < 0.1

    def test_what_the_model_expects_is_taken_off(self) -> None:
        """It expects another TTFT of a batch of 8; a node that shows exactly that teaches an error of nothing."""
        expected = next(each.expected_ratio for each in outcome().shown if each.metric == "ttft_p95_s")
        assert expected is not None and expected != 1
        error = next(each for each in outcome(ttft=expected).errors if each.quantity is Quantity.TTFT)
        assert error.value == pytest.approx(0.0, abs=0.06)

    def test_few_windows_teach_with_more_doubt(self) -> None:
        many, few = outcome(itl=2.0), outcome(itl=2.0, during=3)
        of = [next(e for e in found.errors if e.quantity is Quantity.ITL) for found in (many, few)]
        assert of[1].sd > 2 * of[0].sd
        assert of[1].value > 0.4

    def test_no_window_teaches_nothing(self) -> None:
        found = measure(INPUTS, TRIED, Stretches((), ()))
        assert (found.verdict, found.errors, found.node_rps) == (TryVerdict.UNCLEAR, (), 0.0)

    def test_survives_json(self) -> None:
        found = outcome(itl=1.5)
        assert TryOutcome.from_json(found.to_json()) == found
