"""`trimtab bench engine`: our node and its peers on one machine, interleaved, through one client. Asserts nothing."""

import asyncio
import os
import statistics
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from inference_node.bench import contender as contenders
from inference_node.bench.comparison import ratios
from inference_node.bench.contender import Contender
from inference_node.bench.figures import machine, spread, summary_ms, versions
from inference_node.bench.load import Target
from inference_node.bench.loop import run_on_fast_loop
from inference_node.bench.peers.peer import Peer, Setting
from inference_node.bench.prefix import PrefixTrial, prefix_row, run_prefix_trial
from inference_node.bench.process import ServerFailed, ServerProcess, ends_on_signals
from inference_node.bench.prompts import TokenPrompts
from inference_node.bench.rates import RateProbe, Rates
from inference_node.bench.roofline import weight_bytes, weights_read
from inference_node.bench.trial import Trial, kept, run_trial
from inference_node.bench.wire import Address
from inference_node.contract.settings import Precision
from inference_node.errors import Invalid

Progress = Callable[[str], None]

STREAMS, PREFIX = "streams", "prefix"
_WARM_UP_TOKENS = 8
# Working sets: what a smaller one reads is the caches' rate, and what this one reads is comparable between models.
_LEAST_MB, _USUAL_MB = 16, 135
_QUESTION = "The capital of France is"


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What is compared, and under which load. `numerics` are ours; each peer runs in those of their precisions that it has."""

    model: Path
    numerics: tuple[tuple[Precision, float], ...]
    peers: tuple[tuple[Peer, Path], ...] = ()
    concurrency: tuple[int, ...] = (1, 8, 32)
    scenarios: tuple[str, ...] = (STREAMS,)
    prompt_tokens: int = 128
    output_tokens: int = 64
    repeats: int = 3
    retries: int = 2
    seed: int = 0
    threads: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    knobs: Mapping[str, Any] = field(default_factory=dict)
    cache_dir: Path = Path(tempfile.gettempdir()) / "trimtab-bench"
    timeout_s: float = 300.0

    def __post_init__(self) -> None:
        for name in ("prompt_tokens", "output_tokens", "repeats", "threads", "timeout_s"):
            if getattr(self, name) <= 0:
                raise Invalid(f"{name} must be above 0, got {getattr(self, name)}")
        if self.retries < 0 or not self.concurrency or min(self.concurrency) <= 0:
            raise Invalid("retries must be at least 0, and concurrency levels above 0")
        if unknown := set(self.scenarios) - {STREAMS, PREFIX}:
            raise Invalid(f"there is no scenario {min(unknown)!r}; there are {STREAMS} and {PREFIX}")


def requests_at(concurrency: int) -> int:
    """4, 32 and 64 at 1, 8 and 32 streams: enough waves for a steady middle, few enough for many repeats."""
    return concurrency * (4 if concurrency <= 8 else 2)


def run(options: EngineOptions, progress: Progress = lambda line: None) -> dict[str, Any]:
    """Measure; the whole report as plain values. Raises Invalid, ServerFailed, RatesUnavailable.

    Interrupted, it reports what was measured until then, or raises KeyboardInterrupt when that is nothing.
    """
    with ends_on_signals():
        return run_on_fast_loop(_Comparison(options, progress).run())


class _Comparison:
    """All servers are up at once and frozen while another is measured: repeats then follow each other within seconds."""

    def __init__(self, options: EngineOptions, progress: Progress) -> None:
        self._options, self._progress = options, progress
        self._prompts = TokenPrompts(options.model)
        self._weights = weights_read(options.model)
        self._trials: dict[tuple[str, int], list[Trial]] = {}
        self._prefix: dict[str, list[PrefixTrial]] = {}
        self._silent: set[str] = set()
        self._interrupted = False

    async def run(self) -> dict[str, Any]:
        options = self._options
        before = machine()
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="trimtab-bench-")))
            entrants = self._entrants(folder)
            precisions = {entrant.precision for entrant in entrants}
            sizes = {max(_LEAST_MB, round(weight_bytes(self._weights, precision) / 1e6)) for precision in precisions}
            probe = stack.enter_context(RateProbe(sorted(sizes | {_USUAL_MB}), options.threads))
            facts, servers = [], dict[str, ServerProcess]()
            for entrant in entrants:
                servers[entrant.name], fact = await self._start(entrant, stack, folder)
                facts.append(fact)
            try:
                for repeat in range(options.repeats):
                    await self._repeat(entrants, servers, probe, repeat)
            except asyncio.CancelledError:
                if not self._trials and not self._prefix:
                    raise
                self._interrupted = True
                self._progress("interrupted: what was measured until now is reported")
            peaks = {name: server.peak_rss_mb() for name, server in servers.items()}
        measured = [(entrant, level) for entrant in entrants for level in self._levels()]
        rows = [self._row(*at) for at in measured if (at[0].name, at[1]) in self._trials]
        for row in rows:
            row["peak_rss_mb"] = peaks[row["contender"]]
        known = [entrant for entrant in entrants if entrant.name in self._prefix]
        prefix_rows = [prefix_row(entrant, self._prefix[entrant.name]) for entrant in known]
        return {
            "benchmark": "engine",
            "interrupted": self._interrupted,
            "silent": sorted(self._silent),
            "model": {"name": options.model.resolve().name, "weights_read_per_step": self._weights},
            "hardware": before,
            "versions": versions(),
            "load": _load(options),
            "contenders": [fact | {"peak_rss_mb": peaks[fact["name"]]} for fact in facts],
            "results": rows,
            "ratios": ratios(rows, {"output_tokens_per_s": "output_tokens_per_s", "ttft_p50_ms": "ttft_p50"}),
            "prefix": prefix_rows,
            "prefix_ratios": ratios(
                prefix_rows, {"output_tokens_per_s": "output_tokens_per_s", "ttft_warm_ms": "ttft_warm"}
            ),
        }

    async def _repeat(
        self, entrants: list[Contender], servers: dict[str, ServerProcess], probe: RateProbe, repeat: int
    ) -> None:
        for level in self._levels():
            for entrant in entrants:
                if entrant.name not in self._silent:
                    await self._level(entrant, servers[entrant.name], probe, level, repeat)
        for entrant in entrants if PREFIX in self._options.scenarios else ():
            if entrant.name not in self._silent:
                await self._prefix_level(entrant, servers[entrant.name], probe, repeat)

    def _levels(self) -> tuple[int, ...]:
        return self._options.concurrency if STREAMS in self._options.scenarios else ()

    def _entrants(self, folder: Path) -> list[Contender]:
        """Ours, dense and pruned, then each peer within a precision, so that what is compared runs side by side."""
        options = self._options
        setting = Setting(
            options.model, options.model.resolve().name, options.cache_dir, max(options.concurrency), options.threads
        )
        entrants = []
        for precision in dict.fromkeys(precision for precision, _ in options.numerics):
            for number, (own, pruning) in enumerate(options.numerics):
                if own is precision:
                    home = folder / f"node-{number}"
                    entrants.append(contenders.ours(setting, precision, pruning, home, options.knobs))
            for adapter, venv in options.peers:
                if precision in adapter.precisions:
                    entrants.append(contenders.peer(adapter, venv, setting, precision))
        if len({entrant.name for entrant in entrants}) < len(entrants):
            raise Invalid("each precision and each peer can be named once only")
        return entrants

    async def _start(self, entrant: Contender, stack: ExitStack, folder: Path) -> tuple[ServerProcess, dict[str, Any]]:
        options = self._options
        self._progress(f"starting {entrant.name}")
        log = folder / f"{entrant.name.replace(' ', '-')}.log"
        server = stack.enter_context(ServerProcess(entrant.name, entrant.launch, log))
        target = self._target(entrant, _WARM_UP_TOKENS * 2)
        ready_mb = server.rss_mb()
        answer = await target.ask(_QUESTION)
        if answer.error is not None:
            raise ServerFailed(f"{entrant.name} does not answer as asked: {answer.error}")
        # Kernels, caches and thread pools that are made at first use, at every level.
        warm_up = self._target(entrant, _WARM_UP_TOKENS)
        for level in options.concurrency:
            prompts = self._prompts.make(level, options.prompt_tokens, 0, f"{options.seed}/warm-up/{level}")
            await run_trial(warm_up, prompts, level, None, None)
        server.freeze()
        fact = entrant.described() | {
            "ready_s": round(server.ready_s, 2),
            "rss_ready_mb": ready_mb,
            "says": answer.text,
        }
        return server, fact

    async def _level(
        self, entrant: Contender, server: ServerProcess, probe: RateProbe, level: int, repeat: int
    ) -> None:
        options, tries = self._options, list[Trial]()
        target = self._target(entrant, options.output_tokens)
        for attempt in range(options.retries + 1):
            # The same prompts for all in a repeat; other ones in the next, or a prefix cache would answer from the last.
            seed = f"{options.seed}/{repeat}/{level}/{attempt}"
            prompts = self._prompts.make(requests_at(level), options.prompt_tokens, 0, seed)
            rates = probe.measure()
            server.thaw()
            tries.append(await run_trial(target, prompts, level, server.pid, rates))
            server.freeze()
            self._tell(entrant, f"{level} streams", repeat, tries[-1])
            if not tries[-1].good:
                # Whoever gave no answer within minutes gives none to the next load either.
                self._silent.add(entrant.name)
                self._progress(f"{entrant.name} answers no more and is left out from here on")
                break
            if not tries[-1].occupancy.is_disturbed:
                break
        calmest = min(tries, key=lambda trial: trial.occupancy.foreign_ratio + trial.occupancy.stolen_ratio)
        self._trials.setdefault((entrant.name, level), []).append(calmest)

    async def _prefix_level(self, entrant: Contender, server: ServerProcess, probe: RateProbe, repeat: int) -> None:
        rates: Rates = probe.measure()
        server.thaw()
        target = self._target(entrant, 0)
        trial = await run_prefix_trial(target, self._prompts, server.pid, rates, f"{self._options.seed}/{repeat}")
        server.freeze()
        self._tell(entrant, "shared prefix", repeat, trial.load)
        self._prefix.setdefault(entrant.name, []).append(trial)

    def _target(self, entrant: Contender, output_tokens: int) -> Target:
        # Answers of a set length need vLLM's ignore_eos; the thin doors ignore the end of text anyway.
        extra = {"ignore_eos": True}
        launch = entrant.launch
        return Target(Address.of(launch.url), launch.model_name, output_tokens, extra, self._options.timeout_s)

    def _tell(self, entrant: Contender, load: str, repeat: int, trial: Trial) -> None:
        mark = f", disturbed: {trial.occupancy.foreign_ratio:.0%} foreign" if trial.occupancy.is_disturbed else ""
        errors = f", {len(trial.errors)} errors: {trial.errors[0]}" if trial.errors else ""
        self._progress(
            f"{repeat + 1}/{self._options.repeats} {load}, {entrant.name}: {trial.tokens_per_s:.1f} tokens/s{mark}{errors}"
        )

    def _row(self, entrant: Contender, level: int) -> dict[str, Any]:
        trials = self._trials[entrant.name, level]
        good = kept(trials)
        tpot = [statistics.median(trial.tpot_s) for trial in good if trial.tpot_s]
        return {
            "contender": entrant.name,
            "engine": entrant.engine,
            "precision": entrant.precision.value,
            "pruning_threshold": entrant.pruning,
            "concurrency": level,
            "output_tokens_per_s": round(statistics.median(trial.tokens_per_s for trial in good), 3),
            "output_tokens_per_s_spread": spread([trial.tokens_per_s for trial in good]),
            "ttft_ms": summary_ms([value for trial in good for value in trial.ttft_s]),
            "tpot_ms": summary_ms([value for trial in good for value in trial.tpot_s]),
            "itl_ms": summary_ms([value for trial in good for value in trial.gaps_s]),
            "e2e_ms": summary_ms([value for trial in good for value in trial.e2e_s]),
            "errors": sum(len(trial.errors) for trial in trials),
            "roofline_ratio": self._roofline(entrant, good, tpot) if level == 1 else None,
            "disturbed": sum(trial.occupancy.is_disturbed for trial in trials),
            "by_repeat": {
                "output_tokens_per_s": [trial.tokens_per_s for trial in trials],
                "ttft_p50_ms": [1000 * statistics.median(trial.ttft_s or [0.0]) for trial in trials],
            },
            "runs": [trial.described() for trial in trials],
        }

    def _roofline(self, entrant: Contender, trials: list[Trial], tpot_s: list[float]) -> float | None:
        """Share of the read bandwidth, measured just before at the weights' own size, that decoding one stream reaches.

        Dense weights only: of pruned ones it is not known here how many were read. Keys and values are left out (1 to 2 %).
        """
        if entrant.pruning or not tpot_s:
            return None
        size = weight_bytes(self._weights, entrant.precision)
        shares = [
            size / seconds / trial.rates.read_at(size)
            for trial, seconds in zip(trials, tpot_s, strict=True)
            if trial.rates is not None and seconds > 0  # a short answer may come in one piece
        ]
        return round(statistics.median(shares), 3) if shares else None


def _load(options: EngineOptions) -> dict[str, Any]:
    plain = {
        name: value
        for name, value in asdict(options).items()
        if name not in ("model", "peers", "numerics", "cache_dir")
    }
    return plain | {"ignore_eos": True, "loop": "closed", "requests": {n: requests_at(n) for n in options.concurrency}}
