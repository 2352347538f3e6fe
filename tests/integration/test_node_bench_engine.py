"""The comparison on real processes and sockets: the peers' door, the measured servers, and the whole with a tiny model."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from inference_node.bench import engine, prefix, reconfigure
from inference_node.bench.contender import ours
from inference_node.bench.load import Target, closed_loop
from inference_node.bench.loop import run_on_fast_loop
from inference_node.bench.occupancy import tree
from inference_node.bench.peers import servers
from inference_node.bench.peers.peer import Setting
from inference_node.bench.ports import free_port
from inference_node.bench.process import Launch, ServerFailed, ServerProcess, is_ready
from inference_node.bench.prompts import TokenPrompts
from inference_node.bench.report import tables
from inference_node.bench.wire import Address
from inference_node.config import NodeConfig
from inference_node.contract.settings import Precision
from inference_node.metrics import NodeMetrics
from inference_node.server.app import serve_in_background
from tests.support.fake_engine import FakeEngine
from tests.support.models import save_tiny_model

SERVERS = Path(servers.__file__).parent
ECHO = Path(__file__).parents[1] / "support" / "echo_engine.py"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def echo(tmp_path: Path) -> Iterator[ServerProcess]:
    port = free_port()
    door = (sys.executable, str(SERVERS / "door.py"), "--port", str(port), "--name", "echo", "--")
    launch = Launch((*door, sys.executable, str(ECHO), str(SERVERS)), port, "echo")
    with ServerProcess("echo", launch, tmp_path / "echo.log") as server:
        yield server


def states(server: ServerProcess) -> set[str]:
    return {process.status() for process in tree(server.pid)}


class TestDoor:
    def test_answers_many_at_once_with_every_token(self, echo: ServerProcess) -> None:
        target = Target(Address.of(echo.launch.url), "echo", 7, {"ignore_eos": True}, 30.0)
        prompts = [(65 + number, 97, 98) for number in range(20)]
        samples, _ = run_on_fast_loop(closed_loop(target, prompts, 8))
        assert [sample.error for sample in samples] == [None] * 20
        assert sorted(sample.text for sample in samples) == sorted(
            f"{chr(65 + n)}ab" * 2 + chr(65 + n) for n in range(20)
        )
        assert {(sample.prompt_tokens, sample.output_tokens) for sample in samples} == {(3, 7)}

    def test_takes_text_too_and_shows_tokens_without_text(self, echo: ServerProcess) -> None:
        target = Target(Address.of(echo.launch.url), "echo", 2, {}, 30.0)
        sample = run_on_fast_loop(target.ask("hello"))
        assert (sample.text, sample.prompt_tokens) == ("he", 5)
        assert run_on_fast_loop(target.ask((0,))).text == "\N{REPLACEMENT CHARACTER}" * 2

    def test_a_request_that_makes_no_sense_is_refused(self, echo: ServerProcess) -> None:
        target = Target(Address.of(echo.launch.url), "echo", 2, {"max_tokens": "many"}, 30.0)
        assert str(run_on_fast_loop(target.ask("x")).error).startswith("400")


class TestServerProcess:
    def test_frozen_it_does_nothing_and_thawed_it_goes_on(self, echo: ServerProcess) -> None:
        echo.freeze()
        until = time.monotonic() + 10
        while states(echo) != {psutil.STATUS_STOPPED}:  # a signal needs a moment to arrive
            assert time.monotonic() < until, states(echo)
            time.sleep(0.01)
        echo.thaw()
        assert is_ready(echo.launch.port, "/health")

    def test_nothing_is_left_of_it_even_when_frozen(self, echo: ServerProcess) -> None:
        processes = list(tree(echo.pid))
        assert len(processes) == 2 and echo.peak_rss_mb() >= echo.rss_mb() > 1
        echo.freeze()
        echo.stop()
        assert not psutil.wait_procs(processes, timeout=10)[1]

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
    def test_frozen_servers_end_with_the_benchmark_however_that_ends(
        self, number: signal.Signals, tmp_path: Path
    ) -> None:
        measuring = "\n".join(
            (
                "import asyncio, pathlib, sys",
                "from inference_node.bench.loop import run_on_fast_loop",
                "from inference_node.bench.process import Launch, ServerProcess, ends_on_signals",
                "port, log, *command = sys.argv[1:]",
                "async def measure():",
                "    with ServerProcess('echo', Launch(tuple(command), int(port), 'echo'), pathlib.Path(log)) as server:",
                "        server.freeze()",
                "        print(server.pid, flush=True)",
                "        await asyncio.sleep(60)",
                "with ends_on_signals():",
                "    run_on_fast_loop(measure())",
            )
        )
        port = str(free_port())
        serving = (sys.executable, "-m", "http.server", port, "--bind", "127.0.0.1", "--directory", str(tmp_path))
        (tmp_path / "health").write_text("well")
        in_background = ("sh", "-c", 'trap "" INT; exec "$@"', "sh")  # as a shell starts it
        with subprocess.Popen(
            [*in_background, sys.executable, "-c", measuring, port, str(tmp_path / "log"), *serving],
            stdout=subprocess.PIPE,
            text=True,
        ) as benchmark:
            assert benchmark.stdout is not None
            server = psutil.Process(int(benchmark.stdout.readline()))
            benchmark.send_signal(number)
            code = benchmark.wait(30)
        assert code == (-signal.SIGKILL if number is signal.SIGKILL else -signal.SIGINT)
        assert not psutil.wait_procs([server], timeout=30)[1]

    def test_one_that_dies_shows_the_end_of_its_log(self, tmp_path: Path) -> None:
        launch = Launch((sys.executable, "-c", "import sys; sys.exit('no such model')"), free_port(), "x")
        with pytest.raises(ServerFailed, match=r"exit code 1.*no such model"):
            ServerProcess("peer", launch, tmp_path / "log")

    def test_a_missing_program_names_the_way_out(self, tmp_path: Path) -> None:
        with pytest.raises(ServerFailed, match="bench peers"):
            ServerProcess("peer", Launch((str(tmp_path / "python"),), 1, "x"), tmp_path / "log")


class TestEngine:
    def test_two_precisions_by_turns(self, model: Path, tmp_path: Path) -> None:
        said: list[str] = []
        options = engine.EngineOptions(
            model=model,
            numerics=((Precision.FP32, 0.0), (Precision.BF16, 0.0)),
            concurrency=(1, 2),
            prompt_tokens=12,
            output_tokens=5,
            repeats=2,
            retries=0,
            threads=1,
            cache_dir=tmp_path,
        )
        report = engine.run(options, said.append)
        json.dumps(report)
        rows = {(row["contender"], row["concurrency"]): row for row in report["results"]}
        assert set(rows) == {(f"trimtab {p}", n) for p in ("fp32", "bf16") for n in (1, 2)}
        for (_, level), row in rows.items():
            assert row["errors"] == 0 and len(row["runs"]) == 2
            for run in row["runs"]:
                requests = engine.requests_at(level)
                assert (run["requests"], run["output_tokens"], run["prompt_tokens"]) == (
                    requests,
                    5 * requests,
                    12 * requests,
                )
                assert run["rates"]["bf16_tflops"] > 0 and 0 < run["occupancy"]["server_ratio"] <= 1
        assert [fact["peak_rss_mb"] > 0 for fact in report["contenders"]] == [True, True]
        assert tables(report)[0].rows
        order = [line.split(", ")[1].split(":")[0] for line in said if line.startswith("1/2 1 streams")]
        assert order == ["trimtab fp32", "trimtab bf16"]

    def test_interrupted_it_reports_what_was_measured(self, model: Path, tmp_path: Path) -> None:
        options = engine.EngineOptions(
            model=model,
            numerics=((Precision.FP32, 0.0), (Precision.BF16, 0.0)),
            concurrency=(1,),
            prompt_tokens=12,
            output_tokens=5,
            repeats=100,
            retries=0,
            threads=1,
            cache_dir=tmp_path,
        )

        def end_in_the_second_repeat(line: str) -> None:
            if line.startswith("2/100 1 streams, trimtab fp32"):
                signal.raise_signal(signal.SIGTERM)

        report = engine.run(options, end_in_the_second_repeat)
        assert report["interrupted"]
        assert [len(row["runs"]) for row in report["results"]] in ([2, 1], [1, 1])
        assert "Interrupted" in " ".join(tables(report)[0].notes)


class TestPrefix:
    def test_requests_share_the_prefix_and_nothing_more(self, model: Path, tmp_path: Path) -> None:
        fake = FakeEngine(max_model_len=1024)
        fake.listener = NodeMetrics("fake", "0")
        config = NodeConfig(model=Path("/nowhere"), served_model_name="fake", port=0, data_dir=tmp_path)
        with serve_in_background(fake, config) as served:
            target = Target(Address.of(served.url), "fake", 0, {"ignore_eos": True}, 30.0)
            trial = run_on_fast_loop(prefix.run_prefix_trial(target, TokenPrompts(model), os.getpid(), None, "a"))
        prompts = [request.prompt_token_ids for request in fake.requests]
        assert {len(prompt) for prompt in prompts} == {544} and len(set(prompts)) == len(prompts) == 4 + 3 + 32
        heads = Counter(prompt[:512] for prompt in prompts)
        # Three alone, one that warms its prefix and three behind it, and the load behind another.
        assert sorted(heads.values()) == [1, 1, 1, 4, 32]
        entrant = ours(Setting(model, "tiny", tmp_path, 8, 1), Precision.BF16, 0.0, tmp_path, {})
        row = prefix.prefix_row(entrant, [trial])
        assert (row["errors"], row["ttft_cold_ms"]["n"], row["ttft_warm_ms"]["n"]) == (0, 4, 3)
        assert row["runs"][0]["load"]["output_tokens"] == 32 * 32 and row["ttft_warm_over_cold"]["median"] > 0


class TestReconfigure:
    @pytest.mark.timeout(1200)
    def test_no_answer_suffers(self, model: Path, tmp_path: Path) -> None:
        setting = Setting(model, "tiny", tmp_path, max_streams=8, threads=1)
        entrant = ours(setting, Precision.BF16, 0.0, tmp_path / "node", {})
        with ServerProcess("node", entrant.launch, tmp_path / "log") as server:
            token = (tmp_path / "node" / "nodes" / "node-1" / "admin_token").read_text().strip()
            options = reconfigure.ReconfigureOptions(
                url=entrant.launch.url,
                token=token,
                model="tiny",
                changes=25,
                streams=3,
                prompt_tokens=8,
                output_tokens=24,
                pause_s=0.01,
                steady_s=0.2,
                # Each format with each pruning is measured before it is in force, at the lowest priority.
                precisions=("bf16", "int8"),
                server_pid=server.pid,
            )
            report = reconfigure.run(options)
        json.dumps(report)
        assert (report["changes"], report["applied"], report["refusals"]) == (25, 25, [])
        harms = ("failed_requests", "truncated_requests", "duplicated_tokens", "lost_tokens", "disordered_requests")
        assert {name: report[name] for name in harms} == dict.fromkeys(harms, 0)
        assert report["answers"] >= 3 and report["answers_that_saw_a_change_of_numerics"] > 0
        assert {kind["kind"].split()[0] for kind in report["kinds"]} == set(report["values"])
        assert all(entry["steps"] >= 1 for entry in report["log"])
        assert len(tables(report)) == 2

    def test_a_killed_node_is_told_apart_from_a_broken_answer(self, model: Path, tmp_path: Path) -> None:
        setting = Setting(model, "tiny", tmp_path, max_streams=8, threads=1)
        entrant = ours(setting, Precision.BF16, 0.0, tmp_path / "node", {})
        with ServerProcess("node", entrant.launch, tmp_path / "log") as server:
            os.killpg(server.pid, signal.SIGKILL)
            with pytest.raises(Exception, match="Is the node running"):
                reconfigure.run(reconfigure.ReconfigureOptions(url=entrant.launch.url, token="x" * 20, model="tiny"))
