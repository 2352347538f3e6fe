"""A sample is what the server really sent."""

import pytest

from inference_node.bench.load import read
from inference_node.bench.wire import Recording
from tests.support.answers import HEAD, events, plain, recording, token, usage


def piece(text: str, finish: str | None = None) -> dict[str, object]:
    return {"choices": [{"text": text, "finish_reason": finish}]}


class TestRead:
    def test_times_and_counts(self) -> None:
        raw = plain(events([piece("a"), piece("b"), piece("c", "length"), usage(3)]))
        cuts = [raw.index(b"data: ", raw.index(letter)) for letter in (b'"a"', b'"b"')]
        sample = read(recording(raw, cuts))
        assert (sample.error, sample.text, sample.output_tokens, sample.prompt_tokens) == (None, "abc", 3, 4)
        assert (sample.ttft_s, sample.gaps_s, sample.e2e_s, sample.tpot_s) == (1.0, [1.0, 1.0], 3.0, 1.0)

    def test_tokens_that_come_together_do_not_shorten_the_time_per_token(self) -> None:
        raw = plain(events([piece("a"), piece("bcde", "length"), usage(5)]))
        sample = read(recording(raw, [raw.index(b"data: ", raw.index(b'"a"'))]))
        assert (sample.gaps_s, sample.tpot_s) == ([1.0], 0.25)

    def test_without_usage_pieces_are_counted(self) -> None:
        assert read(recording(plain(events([piece("a"), piece("b", "stop")])))).output_tokens == 2

    @pytest.mark.parametrize(
        ("raw", "says"),
        [
            (plain(events([piece("a")])), "without a finish_reason"),
            (plain(events([piece("a"), {"error": {"message": "a kernel refused"}}])), "a kernel refused"),
            (plain(b'{"error": 1}', HEAD.replace(b"200 OK", b"429 No")), "429"),
            (plain(events([{"surprise": 1}])), "OpenAI-compatible"),
            (b"nonsense", "no HTTP"),
        ],
    )
    def test_what_did_not_end_as_asked_is_an_error(self, raw: bytes, says: str) -> None:
        assert says in str(read(recording(raw)).error)

    def test_a_failed_connection_is_an_error(self) -> None:
        assert read(Recording(0.0, failure="refused")).error == "refused"

    def test_fingerprint_is_the_last_one(self) -> None:
        raw = plain(events([token(1, numerics="fp_a"), token(2, numerics="fp_b", finish="length"), usage(2)]))
        assert read(recording(raw)).fingerprint == "fp_b"
