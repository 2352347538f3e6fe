"""What is made of the raw facts of a reconfiguration."""

from inference_node.bench.changes import Change, Outcome
from inference_node.bench.reconfigure import summarize
from inference_node.bench.truth import StreamTruth

BATCH = Change("max_batch_size", "max_batch_size", 4)
PRECISION = Change("precision bf16 to int8", "precision", "int8")


def stream(times: list[float], numerics: str = "a") -> StreamTruth:
    tokens = [(at, number + 1, numerics) for number, at in enumerate(times)]
    return StreamTruth(0.0, len(times), tokens, "length", len(times))


class TestSummarize:
    def test_gaps_belong_to_the_phase_in_which_they_ended(self) -> None:
        summary = summarize([stream([0.0, 1.0, 5.0, 8.0, 9.0])], [], started_s=4.0, ended_s=8.5)
        assert (summary["itl_steady_ms"]["n"], summary["itl_changing_ms"]["n"]) == (2, 2)
        assert summary["itl_changing_ms"]["p50"] == 3500.0
        assert summary["itl_p99_ratio"] == 3.99

    def test_outcomes_by_kind(self) -> None:
        outcomes = [
            Outcome(BATCH, 0.0, 0.010, steps=1),
            Outcome(BATCH, 0.0, 0.030, steps=3),
            Outcome(PRECISION, 0.0, 1.0, refusal="no memory"),
        ]
        summary = summarize([], outcomes, 0.0, 1.0)
        assert (summary["changes"], summary["applied"], summary["refused"]) == (3, 2, 1)
        assert summary["refusals"] == ["precision bf16 to int8: no memory"]
        (kind,) = summary["kinds"]
        assert kind["steps"] == {"p50": 2.0, "min": 1.0, "max": 3.0}
        assert (kind["apply_ms"]["p50"], kind["apply_ms"]["max"]) == (20.0, 30.0)

    def test_each_kind_of_harm_has_its_own_count(self) -> None:
        failed, short, doubled, lost = (stream([0.0, 1.0]) for _ in range(4))
        failed.error = "cut"
        short.usage_tokens = 1
        doubled.tokens.append(doubled.tokens[-1])
        lost.tokens.pop(0)
        summary = summarize([stream([0.0, 1.0]), failed, short, doubled, lost], [], 0.0, 1.0)
        counts = ("failed_requests", "truncated_requests", "duplicated_tokens", "lost_tokens")
        assert [summary[name] for name in counts] == [1, 1, 1, 1] and summary["answers"] == 5
