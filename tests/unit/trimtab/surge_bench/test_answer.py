"""Who is within the objectives: answered in full, in time. Everybody else has missed."""

import json

import pytest

from inference_node.bench.wire import Recording
from trimtab.surge_bench.answer import Ending, Objectives, Outcome, outcome_of

GOAL = Objectives(ttft_s=0.5, itl_s=0.1)


def _outcome(
    ending: Ending = Ending.ANSWERED, *, first_s: float = 10.5, last_s: float = 11.5, tokens: int = 11
) -> Outcome:
    return Outcome(10.0, ending, tokens=tokens, first_s=first_s, last_s=last_s)


class TestMeets:
    def test_at_both_objectives_is_within(self) -> None:
        assert _outcome().meets(GOAL)

    def test_a_late_first_token_misses(self) -> None:
        assert not _outcome(first_s=10.6, last_s=11.0).meets(GOAL)

    def test_a_long_mean_gap_misses(self) -> None:
        assert not _outcome(last_s=11.6).meets(GOAL)

    @pytest.mark.parametrize("ending", [Ending.REFUSED, Ending.FAILED, Ending.CUT_SHORT])
    def test_what_was_not_answered_in_full_misses(self, ending: Ending) -> None:
        assert not _outcome(ending).meets(GOAL)

    def test_one_token_has_no_gap_to_miss(self) -> None:
        assert _outcome(tokens=1, last_s=10.5).meets(GOAL)

    def test_no_token_at_all_misses(self) -> None:
        assert not Outcome(10.0, Ending.ANSWERED).meets(GOAL)


class TestTokensBy:
    def test_they_come_evenly_from_the_first_to_the_last(self) -> None:
        outcome = _outcome()
        assert [outcome.tokens_by(at) for at in (10.4, 10.5, 11.0, 11.5, 99.0)] == [0, 1, 6, 11, 11]


def _chunk(text: str, *, finish: str | None = None, tokens: int | None = None) -> bytes:
    document = {
        "choices": [{"text": text, "finish_reason": finish}],
        "system_fingerprint": "fp_int8|model|0.0",
        "usage": None if tokens is None else {"prompt_tokens": 3, "completion_tokens": tokens},
    }
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def _recording(*parts: bytes, status: int = 200) -> Recording:
    """Parts arrive half a second after the start, and then every tenth."""
    head = f"HTTP/1.1 {status} X\r\n\r\n".encode()
    arrivals = [(100.4, head), *((100.5 + 0.1 * k, part) for k, part in enumerate(parts))]
    return Recording(100.0, arrivals)


class TestOutcomeOf:
    def test_waiting_counts_from_when_the_request_was_due(self) -> None:
        recording = _recording(_chunk("a"), _chunk("b"), _chunk("c", finish="length", tokens=3))
        outcome = outcome_of(recording, began_s=90.0, due_s=9.8, asked=3)
        assert outcome.ending is Ending.ANSWERED
        assert outcome.levels == ("int8",)
        assert outcome.ttft_s == pytest.approx(0.7)
        assert outcome.gap_s == pytest.approx(0.1)
        assert outcome.late_s == pytest.approx(0.2)

    def test_fewer_tokens_than_asked_for_are_cut_short(self) -> None:
        recording = _recording(_chunk("a"), _chunk("b", finish="stop", tokens=2))
        assert outcome_of(recording, began_s=90.0, due_s=10.0, asked=3).ending is Ending.CUT_SHORT

    def test_a_stream_that_breaks_off_is_cut_short(self) -> None:
        outcome = outcome_of(_recording(_chunk("a")), began_s=90.0, due_s=10.0, asked=3)
        assert outcome.ending is Ending.CUT_SHORT
        assert "finish_reason" in outcome.detail

    def test_a_full_queue_is_a_refusal(self) -> None:
        outcome = outcome_of(_recording(b'{"error": {}}', status=429), began_s=90.0, due_s=10.0, asked=3)
        assert outcome.ending is Ending.REFUSED

    @pytest.mark.parametrize(
        "recording", [Recording(100.0, failure="no end within 60 s"), _recording(status=500), Recording(100.0)]
    )
    def test_the_rest_has_failed(self, recording: Recording) -> None:
        assert outcome_of(recording, began_s=90.0, due_s=10.0, asked=3).ending is Ending.FAILED
