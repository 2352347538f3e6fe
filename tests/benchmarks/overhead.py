"""What a token costs besides the model: `python -m tests.benchmarks.overhead MODEL_FOLDER`.

Part one steps an `Engine` whose model takes no time, and prints what a step of N running streams costs the engine's thread.
Part two serves such an engine over HTTP to a client in a process of its own, at a set step time, and prints how much CPU time
the engine's thread and the event loop spend per step and per token. CPU time, not wall time: the machine may be shared.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from inference_node.config import NodeConfig
from inference_node.contract.settings import EngineSettings
from inference_node.engine.answer import Answer
from inference_node.engine.requests import EngineRequest
from inference_node.engine.token_bytes import TokenBytes
from inference_node.metrics import NodeMetrics
from inference_node.scheduling.sampling_params import SamplingParams
from inference_node.server.app import serve_in_background
from tests.support.no_model import ClockRunner, make_async_engine, make_engine

STREAMS = (1, 8, 32)
_CLIENT = """
import asyncio, sys, time
async def stream(port, tokens):
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    body = ('{"prompt": "%s", "max_tokens": %d, "ignore_eos": true, "temperature": 0, "stream": true}'
            % ("word " * 64, tokens)).encode()
    writer.write(b"POST /v1/completions HTTP/1.1\\r\\nhost: x\\r\\ncontent-type: application/json\\r\\n"
                 b"content-length: %d\\r\\nconnection: close\\r\\n\\r\\n" % len(body) + body)
    data = await reader.read(-1)
    writer.close()
    assert b"[DONE]" in data, data[-400:]
async def main(port, streams, tokens):
    began = time.process_time()
    await asyncio.gather(*(stream(port, tokens) for _ in range(streams)))
    print(time.process_time() - began)
asyncio.run(main(*map(int, sys.argv[1:])))
"""


def thread_cpu_s(name: str) -> float:
    """CPU seconds so far of the thread of that name in this process."""
    (thread,) = [thread for thread in threading.enumerate() if thread.name == name]
    assert thread.ident is not None
    return time.clock_gettime(time.pthread_getcpuclockid(thread.ident))


class Text:
    """Real token ids for made-up answers, in a cycle."""

    def __init__(self, tokenizer: Any) -> None:
        self.ids = tokenizer.encode(Path(__file__).with_name("__init__.py").read_text() or _SOME_TEXT)

    def __call__(self, position: int) -> int:
        return int(self.ids[position % len(self.ids)])


_SOME_TEXT = "The engine steps, and each step brings one token for every stream — naïve café, 日本語, and so on. " * 4


def engine_steps(tokenizer: Any, streams: int, steps: int = 600) -> dict[str, float]:
    settings = EngineSettings(max_batch_size=512, max_batched_tokens=8192)
    engine = make_engine(ClockRunner(Text(tokenizer)), settings, NodeMetrics("overhead", "0"))
    prompt = tuple(Text(tokenizer)(place) for place in range(128))
    for number in range(streams):
        request = EngineRequest(f"r{number}", prompt, SamplingParams(max_tokens=steps + 100, temperature=0.0))
        engine.add(
            Answer(
                request,
                tokenizer.backend_tokenizer,
                eos=frozenset(),
                max_model_len=4096,
                arrived_s=0.0,
                token_bytes=TokenBytes.of(tokenizer.backend_tokenizer),
            )
        )
    for _ in range(50):
        engine.step()
    times = []
    for _ in range(steps):
        began = time.thread_time()
        engine.step()
        times.append(time.thread_time() - began)
    return {"median_us": 1e6 * statistics.median(times), "mean_us": 1e6 * statistics.fmean(times)}


def http_streams(model: Path, tokenizer: Any, streams: int, tokens: int, step_s: float) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        config = NodeConfig(model=model, data_dir=Path(folder), port=0, max_model_len=4096)
        metrics = NodeMetrics(config.model_name, "0")
        settings = EngineSettings(max_batch_size=512, max_batched_tokens=8192)
        engine = make_async_engine(config, tokenizer, ClockRunner(Text(tokenizer), step_s=step_s), settings, metrics)
        with serve_in_background(engine, config, metrics=metrics) as served:
            port = served.url.rpartition(":")[2]

            def run(count: int) -> float:
                command = [sys.executable, "-c", _CLIENT, port, str(streams), str(count)]
                return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

            run(16)  # warms up
            before = thread_cpu_s("engine"), thread_cpu_s("node"), engine.stats().step, time.perf_counter()
            client_s = run(tokens)
            wall_s = time.perf_counter() - before[3]
            steps = engine.stats().step - before[2]
            engine_s, loop_s = thread_cpu_s("engine") - before[0], thread_cpu_s("node") - before[1]
    return {
        "engine_us_per_step": 1e6 * engine_s / steps,
        "loop_us_per_step": 1e6 * loop_s / steps,
        "loop_us_per_token": 1e6 * loop_s / (streams * tokens),
        "client_us_per_token": 1e6 * client_s / (streams * tokens),
        "steps": steps,
        "wall_s": wall_s,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--streams", type=int, nargs="+", default=STREAMS)
    parser.add_argument("--tokens", type=int, default=400)
    parser.add_argument("--step-ms", type=float, default=5.0)
    options = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(options.model, local_files_only=True)
    for streams in options.streams:
        report = {
            "streams": streams,
            "engine": engine_steps(tokenizer, streams),
            "http": http_streams(options.model, tokenizer, streams, options.tokens, options.step_ms / 1e3),
        }
        print(json.dumps(report, default=lambda x: x))  # noqa: T201


if __name__ == "__main__":
    main()
