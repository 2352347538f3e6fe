"""Times of single steps: decode at a context, prefill, and decode pruned."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from inference_node.bench.gpu.limits import time_s
from inference_node.model.gpu.runner import GpuRunner
from inference_node.model.gpu.shapes import Run, shape_for
from inference_node.model.gpu.store import GpuStore
from inference_node.pruning.thresholds import SITES, Site


@dataclass(frozen=True, slots=True)
class StepTime:
    """step_s: of the device alone; limit_s: its bytes over what memory gives when it is only read."""

    name: str
    rows: int
    context: int
    step_s: float
    bytes: int
    limit_s: float

    def row(self) -> dict[str, float | int | str]:
        return {
            "what": self.name,
            "rows": self.rows,
            "context": self.context,
            "step_ms": round(self.step_s * 1e3, 4),
            "tokens_per_s": round(self.rows / self.step_s, 1),
            "share_of_limit": round(self.limit_s / self.step_s, 4),
        }


class Bench:
    """Steps over pages that hold random keys and values."""

    def __init__(self, runner: GpuRunner, read_bytes_per_s: float) -> None:
        self.runner = runner
        self.read_bytes_per_s = read_bytes_per_s
        self._blocks = list(range(runner.kv.num_blocks))
        random.Random(0).shuffle(self._blocks)

    def fill(self) -> None:
        kv = self.runner.gpu_kv
        for page, scale in zip(kv.pages, kv.scales, strict=True):
            for part in page.split(256):
                part.copy_(torch.randn(part.shape, device="cuda", dtype=torch.bfloat16))
            if scale is not None:
                scale.fill_(1.0)

    def runs(self, rows: int, start: int, count: int = 1) -> list[Run]:
        """`rows` sequences that compute `count` tokens after `start` others, each with blocks of its own."""
        pool, size = self.runner.pool, self.runner.kv.block_size
        each = -(-(start + count) // size)
        runs = []
        for row in range(rows):
            pool.tables.write(row, self._blocks[row * each : (row + 1) * each])
            tokens = torch.randint(0, self.runner.spec.vocab_size, (count,)).tolist()
            runs.append(Run(tokens, start, row, samples=True))
        return runs

    def decode(self, name: str, store: GpuStore, rows: int, context: int, *, prunes: bool = False) -> StepTime:
        """context: tokens that each row attends to, its own among them."""
        runs = self.runs(rows, context - 1)
        taken = self.time(store, runs, prunes=prunes)
        kv = rows * context * self.runner.spec.kv_bytes_per_token(self.runner.gpu_kv.dtype)
        moved = store.nbytes + kv
        return StepTime(name, rows, context, taken, moved, moved / self.read_bytes_per_s)

    def time(self, store: GpuStore, runs: Sequence[Run], *, prunes: bool = False) -> float:
        graph = self.graph(store, runs, prunes=prunes)

        def replay() -> None:
            for _ in range(4):
                graph.replay()

        return time_s(replay, repeats=8, warm=2) / 4

    def graph(self, store: GpuStore, runs: Sequence[Run], *, prunes: bool = False) -> torch.cuda.CUDAGraph:
        """Of these runs, launched once."""
        steps, shape = self.runner.steps_of(store), shape_for(runs, prunes=prunes)
        steps.capture(shape, store)
        steps.launch(runs, store, prunes=prunes)
        torch.cuda.synchronize()
        return steps.graph(shape)

    def profile(self, store: GpuStore, runs: Sequence[Run]) -> list[tuple[str, int, float]]:
        """(kernel, launches, microseconds in all) of one step, the longest first."""
        graph = self.graph(store, runs)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as recorded:
            graph.replay()
            torch.cuda.synchronize()
        found = [(event.key, event.count, float(event.self_device_time_total)) for event in recorded.key_averages()]
        return sorted(found, key=lambda line: -line[2])

    def prune(self, store: GpuStore, share: float) -> None:
        """Cut-offs below which that share of each site's entries lies, on this model's own activations."""
        seen: dict[tuple[int, Site], float] = {}

        def hook(layer: int, site: Site, x: torch.Tensor) -> torch.Tensor:
            sizes = x.abs().float().flatten()
            seen[layer, site] = float(sizes.kthvalue(max(1, int(share * sizes.numel()))).values)
            return x

        tokens = torch.randint(0, self.runner.spec.vocab_size, (64,)).tolist()
        self.runner.logits_apart(tokens, store, _Hook(hook), every_token=False)
        taus = self.runner.pool.cuts.taus
        order = [seen[layer, site] for layer in range(self.runner.spec.num_layers) for site in SITES]
        taus[:-1].copy_(torch.tensor(order))

    def kept_share(self, store: GpuStore, runs: Sequence[Run]) -> float:
        """Of the layers' weights, what the last of these steps had a use for."""
        launched = self.runner.steps_of(store).launch(runs, store, prunes=True)
        _, _, kept = launched.wait(self.runner.pool.cuts.kept.shape[0])
        spec = self.runner.spec
        widths = torch.tensor(
            (spec.hidden_size, spec.num_heads * spec.head_dim, spec.hidden_size, spec.intermediate_size)
        )
        weights = torch.tensor(spec.site_weights).float()
        used = kept[:-1].view(-1, len(SITES)).float() / widths / len(runs)
        return float((used * weights).sum() / (weights.sum() * spec.num_layers))


class _Hook:
    """An ActivationHook of one function."""

    def __init__(self, see: Callable[[int, Site, torch.Tensor], torch.Tensor]) -> None:
        self._see = see

    def begin(self, rows: int) -> None: ...

    def __call__(self, layer: int, site: Site, x: torch.Tensor) -> torch.Tensor:
        return self._see(layer, site, x)
