"""A node's real collectors behind a small HTTP server, without the node: what Prometheus scrapes, fed by hand."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from inference_node.contract.messages import NodeHardware
from inference_node.contract.settings import EngineSettings, Precision
from inference_node.engine.listener import RequestRecord, StepRecord
from inference_node.engine.requests import FinishReason, RequestTiming
from inference_node.engine.serving import EngineStats
from inference_node.metrics import NodeMetrics

HARDWARE = NodeHardware(device="cpu", cpu_cores=2, threads=1, memory_bytes=2**30)


class Exporter:
    """`address` is host:port. `running` and `waiting` are what its gauges show."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.running = 0
        self.waiting = 0
        self.metrics = self._fresh()

    def restart(self) -> None:
        """All counters begin at 0 again, as those of a node that restarts."""
        self.metrics = self._fresh()

    def serve(
        self, requests: int, *, ttft_s: float, itl_s: float, prompt: int = 32, answer: int = 16, failed: int = 0
    ) -> None:
        """So many requests came and ended, of which `failed` with a server error; steps of 4 rows made the tokens."""
        for index in range(requests):
            self.metrics.on_request_offered(prompt)
            self.metrics.on_step(_step(decode_rows=0, prefill_tokens=prompt, duration_s=0.1))
            self.metrics.on_token_times([ttft_s], [itl_s] * (answer - 1))
            for _ in range((answer - 1) // 4):
                self.metrics.on_step(_step(decode_rows=4, prefill_tokens=0, duration_s=itl_s))
            reason = FinishReason.ERROR if index < failed else FinishReason.LENGTH
            timing = RequestTiming(0.0, ttft_s / 2, ttft_s, ttft_s + (answer - 1) * itl_s)
            self.metrics.on_request_finished(RequestRecord(str(index), reason, timing, prompt, 0, answer, 0))

    def _fresh(self) -> NodeMetrics:
        metrics = NodeMetrics("tiny", "0.0.0")
        metrics.bind(self._stats, lambda: 1, HARDWARE, EngineSettings())
        return metrics

    def _stats(self) -> EngineStats:
        return EngineStats(
            running=self.running,
            waiting=self.waiting,
            kv_usage=0.25,
            blocks_total=100,
            blocks_used=25,
            blocks_cached=0,
            block_size=16,
            step=1,
            batch_cap=4,
            preemptions=0,
            pruned_ratio=0.0,
            numerics="",
            accepting=True,
            preparing=None,
            failed_steps=0,
        )


@contextmanager
def exporter() -> Iterator[Exporter]:
    """Serves /metrics on a free port until left."""
    found: list[Exporter] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body, content_type = found[0].metrics.expose(self.headers.get("Accept", ""))
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the library calls it so)
            """Silent: a scrape each second says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.append(Exporter(f"127.0.0.1:{server.server_address[1]}"))
    thread = threading.Thread(target=server.serve_forever, name="exporter", daemon=True)
    thread.start()
    try:
        yield found[0]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _step(*, decode_rows: int, prefill_tokens: int, duration_s: float) -> StepRecord:
    return StepRecord(
        step=1,
        started_s=0.0,
        duration_s=duration_s,
        precision=Precision.BF16,
        decode_rows=decode_rows,
        prefill_tokens=prefill_tokens,
        prefill_rows=int(prefill_tokens > 0),
        generated_tokens=decode_rows or 1,
        preemptions=0,
        prefix_queries=prefill_tokens,
        prefix_hits=0,
        running=4,
        waiting=0,
        blocks_used=25,
        blocks_total=100,
        batch_cap=4,
        pruned_ratio=0.0,
    )
