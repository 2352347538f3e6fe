"""`python -m tests.support.fake_node`: the real node server, agent and metrics over a fake engine under simulated traffic.

No model and no tokens, but an honest node to everybody outside: it enrols, beats, asks, takes pushes by the agent's rules, keeps
them on disk over a kill, and its `/metrics` follow its settings. The values of max_batch_size below bring trouble.
"""

import math
import random
import sys
import threading
import time
from collections.abc import Mapping

from inference_node.agent.store import NodeStore
from inference_node.config import NodeConfig
from inference_node.contract.messages import RejectCode
from inference_node.contract.settings import EngineSettings, KnobBounds
from inference_node.contract.step_profile import StepProfile, StepSample
from inference_node.engine.errors import SettingsRefused
from inference_node.engine.listener import RequestRecord
from inference_node.engine.requests import FinishReason, RequestTiming
from inference_node.engine.serving import Applied
from inference_node.logs import configure_logs
from inference_node.metrics import NodeMetrics
from inference_node.server.app import serve
from tests.support.fake_engine import FakeEngine

FAILING, SLOW, REFUSED = 13, 14, 15  # max_batch_size: 5 % of requests fail; twice the latency; no memory for it
HARMLESS = 16
REQUESTS_PER_S = 25.0
_TTFT_S, _ITL_S, _ANSWER = 0.1, 0.02, 8
_FAIL_EVERY = 20


class SimulatedEngine(FakeEngine):
    """Refuses what it has no memory for, as a real one would."""

    async def apply(
        self, settings: EngineSettings, *, bounds: Mapping[str, KnobBounds] | None = None, force: bool = False
    ) -> Applied:
        if settings.max_batch_size == REFUSED:
            raise SettingsRefused(RejectCode.OUT_OF_MEMORY, "max_batch_size", "5 GB are needed and 3 GB are free")
        return await super().apply(settings, bounds=bounds, force=force)

    def step_profile(self) -> StepProfile:
        """Enough cells for the control plane to have a model of it."""
        precision = self.settings.precision
        shapes = ((1, 0), (4, 0), (16, 0), (32, 0), (1, 64), (4, 128))
        cells = (
            StepSample(
                precision=precision, decode_rows=rows, prefill_tokens=tokens, step_s=0.02 + 1e-4 * rows + 1e-5 * tokens, samples=3
            )
            for rows, tokens in shapes
        )  # fmt: skip
        return StepProfile(cells=tuple(cells))


def traffic(engine: FakeEngine, metrics: NodeMetrics) -> None:
    """Requests at an even pace, for ever; how long they take and whether they fail is up to the settings in force."""
    random_ = random.Random(7)
    index = 0
    while True:
        time.sleep(1 / REQUESTS_PER_S)
        index += 1
        batch = engine.settings.max_batch_size
        factor = (2.0 if batch == SLOW else 1.0) * math.exp(random_.gauss(0, 0.05))
        fails = batch == FAILING and index % _FAIL_EVERY == 0
        metrics.on_request_offered(32)
        metrics.on_token_times([_TTFT_S * factor], [_ITL_S * factor] * (_ANSWER - 1))
        timing = RequestTiming(0.0, 0.01, _TTFT_S * factor, (_TTFT_S + _ITL_S * _ANSWER) * factor)
        reason = FinishReason.ERROR if fails else FinishReason.LENGTH
        metrics.on_request_finished(RequestRecord(str(index), reason, timing, 32, 0, _ANSWER, 0))


def main() -> int:
    """Configured by NODE_*, as a real node; NODE_MODEL is not looked at."""
    config = NodeConfig()
    configure_logs(config.log_level, as_json=config.log_json)
    stored = NodeStore(config.data_dir / "nodes" / config.name).load_settings()
    engine = SimulatedEngine(config.initial_settings() if stored is None else stored.settings)
    metrics = NodeMetrics(engine.model_name, "0.0.0")
    engine.listener = metrics
    threading.Thread(target=traffic, args=(engine, metrics), name="traffic", daemon=True).start()
    return serve(engine, config, metrics=metrics)


if __name__ == "__main__":
    sys.exit(main())
