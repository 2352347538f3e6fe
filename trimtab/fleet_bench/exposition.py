"""What many simulated nodes would tell Prometheus, on one page, so that a real one scrapes and answers for all of them."""

import math
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from controlplane.telemetry.queries import TRIMTAB

# Of a quiet pool: nothing that a decision would have to answer.
_REQUESTS_PER_S, _STEPS_PER_S = 1.5, 40.0
_PER_REQUEST = {"prompt_tokens": 180.0, "generation_tokens": 90.0}
_RARE = {"errors": 0.0, "rejected": 0.0}
_GAUGES = {"running": 3.0, "waiting": 0.0}
_MEANS = {
    "step_mean_s": 0.02, "decode_rows_mean": 3.0, "prefill_tokens_mean": 7.0, "prefix_hit_ratio": 0.2,
    "prompt_tokens_mean": 180.0, "generation_tokens_mean": 90.0,
}  # fmt: skip
_P95_S = {"ttft_p95_s": 0.1, "itl_p95_s": 0.02, "e2e_p95_s": 2.0, "queue_p95_s": 0.01}
_BOUNDS = ("0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf")


@dataclass(frozen=True, slots=True)
class Told:
    """A node as Prometheus labels it."""

    node_id: str
    node: str
    pool: str
    fleet: str

    @property
    def labels(self) -> str:
        return f'node_id="{self.node_id}",node="{self.node}",pool="{self.pool}",fleet="{self.fleet}"'


class Exposition:
    """Serves `/metrics` of all nodes; counters grow with the clock. Labels are the scraped ones' own (`honor_labels`)."""

    def __init__(self, nodes: Sequence[Told]) -> None:
        self._began = time.monotonic() - 3600.0
        self._rates: list[tuple[str, float]] = []
        self._fixed: list[str] = []
        for node in nodes:
            self._add(node.labels)
        page = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = page.text().encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="exposition", daemon=True)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    @property
    def series(self) -> int:
        return len(self._rates) + len(self._fixed)

    def text(self) -> str:
        elapsed = time.monotonic() - self._began
        grown = [f"{name} {rate * elapsed:.3f}" for name, rate in self._rates]
        return "\n".join((*grown, *self._fixed, ""))

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _add(self, labels: str) -> None:
        rates: dict[str, float] = {}
        for fact, name in TRIMTAB.counters.items():
            rates[name] = _RARE.get(fact, _REQUESTS_PER_S * _PER_REQUEST.get(fact, 1.0))
        for fact, (top, bottom) in TRIMTAB.ratios.items():
            rates.setdefault(bottom, _STEPS_PER_S)
            rates.setdefault(top, _MEANS[fact] * rates[bottom])
        self._rates += [(f"{name}{{{labels}}}", rate) for name, rate in rates.items()]
        for fact, p95 in _P95_S.items():
            histogram, _ = TRIMTAB.quantiles[fact]
            for bound in _BOUNDS:
                share = 1.0 - math.exp(-3.0 * float(bound) / p95)  # exponential, of which 95 % lie below p95
                self._rates.append((f'{histogram}_bucket{{{labels},le="{bound}"}}', _REQUESTS_PER_S * share))
        for fact, name in TRIMTAB.gauges.items():
            self._fixed.append(f"{name}{{{labels}}} {_GAUGES.get(fact, 0.0)}")
        self._fixed += [f"{name}{{{labels}}} 0.3" for name in TRIMTAB.means.values()]
        self._fixed.append(f"up{{{labels}}} 1")
