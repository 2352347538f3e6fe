"""What the command line says of a surge, and the defaults of the rules."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from controlplane.bench.replay.arrivals import Arrivals
from inference_node.contract.settings import Precision
from trimtab.surge_bench.level import Level
from trimtab.surge_bench.load import Lengths, Shape, Span
from trimtab.surge_bench.policies import KINDS

LEVELS = (Level(Precision.BF16), Level(Precision.INT8), Level(Precision.INT4))


@dataclass(frozen=True, slots=True)
class SurgeOptions:
    """None where the rules decide. `calm` and `surge` are multiples of what the best level within the budget carries.

    `window`: a stretch of a trace, as long as the scored time, whose arrivals take the place of the schedule's. `rest_s`: calm
    load before trimtab's run. `timeout_s`: for one answer. `data_dir`: None for a temporary one.
    """

    nodes: int = 2
    minutes: float = 10.0
    warm_s: float = 60.0
    rest_s: float = 300.0
    levels: tuple[Level, ...] = LEVELS
    policies: tuple[str, ...] = KINDS
    grid: tuple[tuple[Level, int], ...] | None = None
    repeats: int = 1
    measure_s: float = 6.0
    lengths: Lengths = field(default_factory=lambda: Lengths(Span(24, 48), Span(32, 96)))
    ttft_slo_s: float | None = None
    itl_slo_ms: float | None = None
    budget: float | None = None
    calm: float | None = None
    surge: float | None = None
    window: Arrivals | None = None
    timeout_s: float = 60.0
    seed: int = 0
    data_dir: Path | None = None

    @property
    def shape(self) -> Shape:
        return shape_of(self.minutes, self.warm_s)

    def plain(self) -> dict[str, Any]:
        """For the document; no path of the machine is in it."""
        prompt, answer = self.lengths.prompt, self.lengths.answer
        return {
            "nodes": self.nodes, "minutes": self.minutes, "warm_s": self.warm_s, "rest_s": self.rest_s,
            "levels": [level.name for level in self.levels], "policies": list(self.policies),
            "grid": None if self.grid is None else [f"{level.name}:{batch}" for level, batch in self.grid],
            "repeats": self.repeats, "measure_s": self.measure_s, "seed": self.seed, "timeout_s": self.timeout_s,
            "prompt_tokens": [prompt.least, prompt.most], "output_tokens": [answer.least, answer.most],
            "ttft_slo_s": self.ttft_slo_s, "itl_slo_ms": self.itl_slo_ms, "budget": self.budget,
            "calm": self.calm, "surge": self.surge, "trace": None if self.window is None else self.window.name,
        }  # fmt: skip


def shape_of(minutes: float, warm_s: float) -> Shape:
    return Shape(scored_s=60 * minutes, warm_s=warm_s)
