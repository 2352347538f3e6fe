"""`bench serve` against a node on a real socket: its figures are of what the server really did."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from inference_node.bench.serve import ServeOptions, ServerUnreachable, run
from inference_node.config import NodeConfig
from inference_node.errors import Invalid
from inference_node.metrics import NodeMetrics
from inference_node.server.app import Served, serve_in_background
from tests.support.fake_engine import FakeEngine


@pytest.fixture
def engine() -> FakeEngine:
    engine = FakeEngine(max_model_len=4096)
    engine.listener = NodeMetrics("fake", "0")
    return engine


@pytest.fixture
def served(engine: FakeEngine, tmp_path: Path) -> Iterator[Served]:
    config = NodeConfig(model=Path("/nowhere"), served_model_name="fake", port=0, data_dir=tmp_path)
    with serve_in_background(engine, config) as served:
        yield served


class TestRun:
    def test_closed_loops(self, served: Served, engine: FakeEngine) -> None:
        options = ServeOptions(served.url, concurrency=(1, 3), requests=6, prompt_tokens=40, output_tokens=5, repeats=2)
        report = run(options)
        json.dumps(report)
        one, three = report["results"]
        assert (one["concurrency"], three["concurrency"]) == (1, 3)
        for result in (one, three):
            assert (result["requests"], result["errors"], result["output_tokens"]) == (12, 0, 60)
            assert result["ttft_ms"]["n"] == 12 and result["itl_ms"]["n"] == 48
            assert result["output_tokens_per_s"] > 0 and len(result["output_tokens_per_s_spread"]["values"]) == 2
            assert (result["precision"], result["pruning_threshold"]) == ("bf16", 0.0)
        assert report["hardware"]["cores"] and report["versions"]["trimtab"]
        prompts = [request.prompt_token_ids for request in engine.requests]
        assert len(set(prompts)) == len(prompts)  # no prefix cache can answer from an earlier repeat
        assert all(request.sampling.ignore_eos and request.sampling.is_greedy for request in engine.requests)

    def test_prompts_have_about_the_tokens_asked_for(self, served: Served) -> None:
        report = run(ServeOptions(served.url, concurrency=(1,), requests=8, prompt_tokens=200, repeats=1))
        assert report["results"][0]["prompt_tokens_mean"] == pytest.approx(200, rel=0.15)

    def test_open_loops(self, served: Served) -> None:
        report = run(ServeOptions(served.url, rates_rps=(200.0,), requests=10, output_tokens=3, repeats=1))
        (result,) = report["results"]
        assert (result["concurrency"], result["rate_rps"], result["requests"]) == (None, 200.0, 10)
        assert report["load"]["loop"] == "open"

    def test_failures_are_counted_and_shown(self, served: Served, engine: FakeEngine) -> None:
        options = ServeOptions(served.url, concurrency=(2,), requests=4, output_tokens=3, repeats=1)
        engine.fail_after = 4  # after the warm-up's three tokens, none fails: raise the answer's length
        report = run(options)
        assert report["results"][0]["errors"] == 0
        calm = engine.submit

        async def flaky(request):  # type: ignore[no-untyped-def] # forwards as is
            engine.fail_after = 1 if len(engine.requests) > 6 else None
            return await calm(request)

        engine.submit = flaky  # type: ignore[method-assign]
        result = run(options)["results"][0]
        assert result["errors"] > 0 and "a kernel refused" in result["error_examples"][0]


class TestErrors:
    def test_a_server_that_is_not_there(self) -> None:
        with pytest.raises(ServerUnreachable, match="Is the server running"):
            run(ServeOptions("http://127.0.0.1:9"))

    @pytest.mark.parametrize(
        "wrong",
        [{"concurrency": (0,)}, {"repeats": 0}, {"prompt_tokens": 5, "shared_prefix_tokens": 5}, {"requests": 0}],
    )
    def test_a_load_that_makes_no_sense(self, wrong: dict[str, int]) -> None:
        with pytest.raises(Invalid):
            ServeOptions("http://127.0.0.1:9", **wrong)  # type: ignore[arg-type]
