"""What the traffic reads off the nodes' own measurements, and whom it asks next."""

import httpx2
import pytest

from inference_node.contract.settings import Precision
from inference_node.contract.step_profile import StepProfile, StepSample
from trimtab.traffic.nodes import Nodes, decode_gain


def profile(*cells: tuple[int, int, float]) -> StepProfile:
    return StepProfile(
        cells=tuple(
            StepSample(precision=Precision.BF16, decode_rows=rows, prefill_tokens=tokens, step_s=step_s, samples=3)
            for rows, tokens, step_s in cells
        )
    )


class TestDecodeGain:
    def test_is_the_ratio_of_tokens_per_second(self) -> None:
        assert decode_gain(profile((4, 0, 0.05), (16, 0, 0.1)), 4, 16) == pytest.approx(2.0)

    def test_takes_what_lies_between_as_linear(self) -> None:
        assert decode_gain(profile((4, 0, 0.05), (8, 0, 0.06), (32, 0, 0.12)), 4, 16) == pytest.approx(4 * 0.05 / 0.08)

    def test_ignores_steps_with_prefill(self) -> None:
        assert decode_gain(profile((4, 0, 0.05), (16, 64, 9.0), (16, 0, 0.1)), 4, 16) == pytest.approx(2.0)

    def test_is_unknown_without_measurements(self) -> None:
        assert decode_gain(profile((4, 0, 0.05)), 4, 16) is None
        assert decode_gain(StepProfile(), 4, 16) is None


def client(statuses: dict[str, int], body: str = "data: {}\n\ndata: [DONE]\n\n") -> httpx2.AsyncClient:
    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(statuses[request.url.host], text=body)

    return httpx2.AsyncClient(transport=httpx2.MockTransport(answer))


class TestNodes:
    async def test_asks_in_turn(self) -> None:
        async with client({}) as http:
            nodes = Nodes(http, ["http://a", "http://b"])
            assert [nodes.next_url() for _ in range(4)] == ["http://a", "http://b", "http://a", "http://b"]

    async def test_leaves_out_one_that_failed(self) -> None:
        async with client({"a": 503, "b": 200}) as http:
            nodes = Nodes(http, ["http://a", "http://b"])
            assert not await nodes.ask("http://a", {})
            assert await nodes.ask("http://b", {})
            assert [nodes.next_url() for _ in range(2)] == ["http://b", "http://b"]
            assert (nodes.tally.failed, nodes.tally.finished) == (1, 1)

    async def test_a_full_queue_is_no_failure(self) -> None:
        async with client({"a": 429}) as http:
            nodes = Nodes(http, ["http://a"])
            assert not await nodes.ask("http://a", {})
            assert nodes.next_url() == "http://a"
            assert (nodes.tally.refused, nodes.tally.failed) == (1, 0)

    async def test_an_answer_without_its_end_counts_as_failed(self) -> None:
        async with client({"a": 200}, body="data: {}\n\n") as http:
            nodes = Nodes(http, ["http://a"])
            assert not await nodes.ask("http://a", {})
            assert nodes.tally.failed == 1
