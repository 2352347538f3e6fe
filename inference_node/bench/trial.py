"""One measured window: a load on one server, with who else used the processor and what the machine could do just before."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from inference_node.bench.figures import summary_ms
from inference_node.bench.load import Sample, Target, read, record_closed_loop
from inference_node.bench.occupancy import Occupancy, take_reading
from inference_node.bench.prompts import Prompt
from inference_node.bench.rates import Rates


@dataclass(frozen=True, slots=True)
class Trial:
    """`elapsed_s` is from the first request's start to the last one's end."""

    samples: tuple[Sample, ...]
    elapsed_s: float
    occupancy: Occupancy
    rates: Rates | None

    @property
    def good(self) -> list[Sample]:
        return [sample for sample in self.samples if sample.error is None]

    @property
    def tokens_per_s(self) -> float:
        return sum(sample.output_tokens for sample in self.good) / self.elapsed_s

    @property
    def ttft_s(self) -> list[float]:
        return [sample.ttft_s for sample in self.good if sample.ttft_s is not None]

    @property
    def tpot_s(self) -> list[float]:
        return [value for sample in self.good if (value := sample.tpot_s) is not None]

    @property
    def gaps_s(self) -> list[float]:
        return [gap for sample in self.good for gap in sample.gaps_s]

    @property
    def e2e_s(self) -> list[float]:
        return [sample.e2e_s for sample in self.good if sample.e2e_s is not None]

    @property
    def errors(self) -> list[str]:
        return [str(sample.error) for sample in self.samples if sample.error is not None]

    def described(self) -> dict[str, Any]:
        """Raw, for the report."""
        return {
            "output_tokens_per_s": round(self.tokens_per_s, 3),
            "elapsed_s": round(self.elapsed_s, 4),
            "requests": len(self.samples),
            "prompt_tokens": sum(sample.prompt_tokens for sample in self.good),
            "output_tokens": sum(sample.output_tokens for sample in self.good),
            "ttft_ms": summary_ms(self.ttft_s),
            "tpot_ms": summary_ms(self.tpot_s),
            "itl_ms": summary_ms(self.gaps_s),
            "e2e_ms": summary_ms(self.e2e_s),
            "errors": len(self.errors),
            "error_examples": sorted(set(self.errors))[:3],
            "occupancy": asdict(self.occupancy),
            "disturbed": self.occupancy.is_disturbed,
            "rates": asdict(self.rates) if self.rates else None,
        }


async def run_trial(
    target: Target, prompts: Sequence[Prompt], concurrency: int, server_pid: int | None, rates: Rates | None
) -> Trial:
    """A closed loop at `concurrency`."""
    # What the last request left behind (a closing connection, a log line) shall not count.
    await asyncio.sleep(0.05)
    requests = [target.request(prompt) for prompt in prompts]
    before = take_reading(server_pid)
    recordings, elapsed_s = await record_closed_loop(target, requests, concurrency)
    occupancy = before.until(take_reading(server_pid))
    return Trial(tuple(map(read, recordings)), elapsed_s, occupancy, rates)


def kept(trials: Sequence[Trial]) -> list[Trial]:
    """The undisturbed ones; all when there is none, and then the report says so."""
    return [trial for trial in trials if not trial.occupancy.is_disturbed] or list(trials)
