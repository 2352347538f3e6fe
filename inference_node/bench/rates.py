"""What the machine can do at this moment: read bandwidth at given working sets, and the rate of the bf16 matrix units.

Both drift within minutes on shared machines, so they are measured beside each figure that is compared with them. The
measuring lives in a process of its own (`python -m inference_node.bench.rates`), which sleeps between two questions: the
client then stays small, and the threads of torch do not linger beside the server under test.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Any, Self

from inference_node.errors import Unavailable

# A matrix product of this size takes some 10 ms on two cores with AMX, 20 times its way to memory.
_MATRIX = 2048
_PASSES = 7


class RatesUnavailable(Unavailable):
    """The probe ended: most likely torch is not installed."""


@dataclass(frozen=True, slots=True)
class Rates:
    """`read_gb_s` by working set in MB (10^6 bytes), `bf16_tflops` of a 2048 x 2048 x 2048 product."""

    read_gb_s: dict[int, float]
    bf16_tflops: float

    def read_at(self, size_bytes: float) -> float:
        """Bytes per second at the measured working set nearest to `size_bytes`."""
        return 1e9 * self.read_gb_s[min(self.read_gb_s, key=lambda mb: abs(mb * 1e6 - size_bytes))]


class RateProbe:
    """Client side: keeps the measuring process, asks it, ends it."""

    def __init__(self, sizes_mb: Sequence[int], threads: int) -> None:
        self._question = json.dumps({"sizes_mb": list(sizes_mb), "threads": threads}) + "\n"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "inference_node.bench.rates"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def measure(self) -> Rates:
        """Takes about half a second. Raises RatesUnavailable."""
        into, out = self._pipes()
        try:
            into.write(self._question)
            into.flush()
            line = out.readline()
        except OSError:
            line = ""
        if not line:
            raise RatesUnavailable("the machine's rates cannot be measured: the probe ended. Is torch installed?")
        answer = json.loads(line)
        return Rates({int(size): rate for size, rate in answer["read_gb_s"].items()}, answer["bf16_tflops"])

    def close(self) -> None:
        into, out = self._pipes()
        into.close()  # the end of its input is the end of its work
        self._process.wait()
        out.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _pipes(self) -> tuple[IO[str], IO[str]]:
        assert self._process.stdin is not None and self._process.stdout is not None
        return self._process.stdin, self._process.stdout


def main() -> None:
    """The measuring process: a question a line on standard input, an answer a line on standard output."""
    # Only this process needs it; whoever imports the client side does not pay for it.
    import torch  # noqa: PLC0415

    buffers: dict[int, Any] = {}
    left = torch.randn(_MATRIX, _MATRIX).to(torch.bfloat16)
    right = torch.randn(_MATRIX, _MATRIX).to(torch.bfloat16)
    for line in sys.stdin:
        question = json.loads(line)
        torch.set_num_threads(question["threads"])
        read: dict[int, float] = {}
        for size_mb in question["sizes_mb"]:
            if size_mb not in buffers:
                buffers[size_mb] = torch.ones(size_mb * 1_000_000 // 4)
            values = buffers[size_mb]
            # Two ways to read everything once; whichever is held back less by arithmetic is nearer to the memory.
            seconds = min(_median_s(values.sum), _median_s(values.norm))
            read[size_mb] = round(size_mb / 1e3 / seconds, 2)
        product_s = _median_s(lambda: torch.mm(left, right))
        tflops = round(2 * _MATRIX**3 / product_s / 1e12, 3)
        sys.stdout.write(json.dumps({"read_gb_s": read, "bf16_tflops": tflops}) + "\n")
        sys.stdout.flush()


def _median_s(work: Callable[[], object]) -> float:
    work()
    taken = []
    for _ in range(_PASSES):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


if __name__ == "__main__":
    main()
