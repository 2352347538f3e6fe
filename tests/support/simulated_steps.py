"""A machine that takes steps as a roofline says, with noise and now and then a long pause: what a step model must learn."""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from inference_node.contract.step_profile import StepShape


@dataclass(slots=True)
class SimulatedMachine:
    """Weights are read or multiplied, whichever takes longer; rows are padded to tiles of 16; attention reads the context."""

    seed: int = 7
    noise: float = 0.02
    slowdown: float = 1.0
    launch_s: float = 0.002
    weights_s: float = 0.012
    row_s: float = 0.0003
    tile: int = 16
    source: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.source = random.Random(self.seed)

    def ideal_s(self, shape: StepShape) -> float:
        padded = math.ceil(shape.tokens / self.tile) * self.tile
        matrices = max(self.weights_s, padded * self.row_s)
        attention = 2e-6 * shape.context_tokens + 2e-7 * shape.prefill_pairs
        head = 0.0002 * (shape.decode_rows + shape.prefill_rows)
        return (self.launch_s + matrices + attention + head) * self.slowdown

    def step_s(self, shape: StepShape) -> float:
        """As measured: log-normal noise, and 1 step in 100 waits three times as long for somebody else."""
        pause = 3.0 if self.source.random() < 0.01 else 1.0
        return self.ideal_s(shape) * pause * math.exp(self.source.gauss(0, self.noise))

    def traffic(self, most_rows: int = 32) -> Iterator[StepShape]:
        """Steps of a server whose batch fills and drains, with prompts coming in between; never ends."""
        contexts: list[int] = []
        while True:
            contexts = [context + 1 for context in contexts if self.source.random() > 0.02]
            prompt = 0
            if len(contexts) < most_rows and self.source.random() < 0.15:
                prompt = int(2 ** self.source.uniform(4, 9))
            if contexts or prompt:
                yield StepShape(len(contexts), prompt, int(prompt > 0), sum(contexts), prompt * prompt // 2)
            if prompt:
                contexts.append(prompt + 1)
