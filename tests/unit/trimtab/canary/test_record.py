import pytest

from inference_node.contract.metrics import REQUEST_SUCCESS, TTFT
from trimtab.canary.record import quantile, read_sample, window_of


class TestQuantile:
    def test_is_linear_within_its_bucket_as_promql_has_it(self) -> None:
        assert quantile(0.95, [(0.1, 50.0), (0.2, 100.0), (float("inf"), 100.0)]) == pytest.approx(0.19)

    def test_beyond_the_last_bound_is_that_bound(self) -> None:
        assert quantile(0.95, [(0.1, 10.0), (float("inf"), 100.0)]) == pytest.approx(0.1)

    def test_of_nothing_is_none(self) -> None:
        assert quantile(0.95, [(0.1, 0.0), (float("inf"), 0.0)]) is None


def exposed(count: int, quick: int) -> str:
    return (
        f"# TYPE {TTFT.name} histogram\n"
        f'{TTFT.name}_bucket{{le="0.1"}} {quick}\n{TTFT.name}_bucket{{le="+Inf"}} {count}\n'
        f"{TTFT.name}_count {count}\n{TTFT.name}_sum 1\n"
        f"# TYPE {REQUEST_SUCCESS.name.removesuffix('_total')}_total counter\n"
        f'{REQUEST_SUCCESS.name.removesuffix("_total")}_total{{reason="stop"}} {count}\n'
    )


def test_a_window_is_what_happened_between_two_samples() -> None:
    found = window_of(read_sample(exposed(10, 10)), read_sample(exposed(30, 30)))
    assert found.requests == 20
    assert found.ttft_p95_s == pytest.approx(0.095)
    assert found.itl_p95_s is None
