"""Nodes whose steps follow a known law that is not the one they measured of themselves: what a step memory has to find out.

Windows are means with noise, one every fifteen seconds, under a load that goes up and down; nothing of the product is in it.
"""

import math
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from controlplane.telemetry.observation import Observation, Quality
from inference_node.contract.settings import EngineSettings, Precision
from inference_node.contract.step_profile import StepFit, StepProfile

SETTINGS = EngineSettings(max_batch_size=32, max_batched_tokens=512)
START = datetime(2026, 1, 1, tzinfo=UTC)
WINDOW_S = 15.0
# Base, decode rows and prefill, each so many times what the node measured.
LAW = {Precision.BF16: (1.3, 0.9, 1.6), Precision.INT8: (1.5, 1.1, 1.2)}
# Where predictions are held against the truth: decode rows and prefill tokens, most of them unlike what is served.
ASKED = tuple((rows, prefill) for rows in (1, 4, 16, 32, 64) for prefill in (0, 64, 256))


_BASE_S, _ROW_S, _TOKEN_S, _TOKENS = 0.020, 0.001, 0.0002, 4096
_FAST = {Precision.BF16: 1.0, Precision.INT8: 0.6}


def fit(precision: Precision) -> StepFit:
    """What the node says. No context and no pairs, so that a window's means say all."""
    fast = _FAST[precision]
    return StepFit(
        precision=precision,
        base_s=_BASE_S * fast,
        curve=((_TOKENS, _TOKENS * _TOKEN_S * fast),),
        decode_row_s=_ROW_S * fast,
        prefill_row_s=0.0,
        context_token_s=0.0,
        prefill_pair_s=0.0,
        samples=50,
        error_median=0.03,
    )


PROFILE = StepProfile(fits=tuple(fit(each) for each in LAW), hardware="cpu", model="m", engine_version="1")


@dataclass
class Machine:
    """`slower`: how much longer everything takes, by whatever else runs there."""

    settings: EngineSettings = SETTINGS
    noise: float = 0.05
    seed: int = 0
    slower: float = 1.0
    law: dict[Precision, tuple[float, float, float]] = field(default_factory=lambda: dict(LAW))
    now_s: float = 0.0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def truth_s(self, precision: Precision, rows: float, prefill: float) -> float:
        base, row, token = self.law[precision]
        expected = base * _BASE_S + row * (_ROW_S + _TOKEN_S) * rows + token * _TOKEN_S * prefill
        return self.slower * _FAST[precision] * expected

    def window(self) -> Observation:
        self.now_s += WINDOW_S
        rows = 2 + 6 * (1 + math.sin(self.now_s / 200)) * (0.8 + 0.4 * self._random.random())
        prefill = 10 + 60 * self._random.random()
        seconds = self.truth_s(self.settings.precision, rows, prefill) * math.exp(self._random.gauss(0, self.noise))
        return Observation(
            START + timedelta(seconds=self.now_s),
            WINDOW_S,
            Quality.OK,
            offered_rps=1.0,
            requests=15.0,
            step_mean_s=seconds,
            decode_rows_mean=rows,
            prefill_tokens_mean=prefill,
            prompt_tokens_mean=64.0,
            generation_tokens_mean=64.0,
        )

    def switch(self, precision: Precision) -> None:
        self.settings = self.settings.replace(precision=precision.value)
