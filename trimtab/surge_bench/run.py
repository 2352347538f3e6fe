"""The whole benchmark: a fleet, what its levels carry, the objectives, every policy under the same load, the document."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from controlplane.bench.replay.arrivals import read_requests
from inference_node.bench.figures import machine, versions
from inference_node.bench.loop import run_on_fast_loop
from inference_node.bench.process import ends_on_signals
from inference_node.contract.settings import Precision
from trimtab.errors import CommandError
from trimtab.supervisor.specs import INITIAL_SETTINGS
from trimtab.surge_bench import hands as pool_hands
from trimtab.surge_bench.answer import Objectives
from trimtab.surge_bench.budget import Budget
from trimtab.surge_bench.capacity import (
    Demand,
    Loop,
    capacity_rps,
    fastest_of,
    keepers,
    loop_of,
    near_ties,
    objectives_of,
)
from trimtab.surge_bench.client import Doors, closed_loops, open_loop
from trimtab.surge_bench.fleet import RealFleet
from trimtab.surge_bench.hands import Deeds, Hands, LevelRefused
from trimtab.surge_bench.level import Level
from trimtab.surge_bench.load import Lengths, Planned, Shape, Span, requests_at, surge_times, trace_times
from trimtab.surge_bench.policies import KINDS, Contestant, contestants, tuning, untouched
from trimtab.surge_bench.report import Run, Terms, results, sign

Say = Callable[[str], None]

CLIENTS = (1, 2, 4, 8)
LEVELS = (Level(Precision.BF16), Level(Precision.INT8), Level(Precision.INT4))
# While levels are measured: so large that CLIENTS at a node never wait for each other's place.
_MEASURED_BATCH = 16
# Other words than prompts begin with by chance: a prefix found in a cache would have to begin with the run's own.
_MARKS = (
    "amber",
    "basalt",
    "cobalt",
    "dune",
    "ember",
    "fjord",
    "granite",
    "harbour",
    "island",
    "jasper",
    "kelp",
    "lagoon",
)


@dataclass(frozen=True, slots=True)
class SurgeOptions:
    """None where the rules decide. `calm` and `surge` are multiples of what the best level within the budget carries."""

    nodes: int = 2
    minutes: float = 10.0
    warm_s: float = 60.0
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
    trace: Path | None = None
    timeout_s: float = 60.0
    seed: int = 0
    data_dir: Path | None = None

    @property
    def shape(self) -> Shape:
        return Shape(scored_s=60 * self.minutes, warm_s=self.warm_s)


def run(options: SurgeOptions, say: Say) -> dict[str, Any]:
    """Raises CommandError. Interrupted, it reports the runs that were through, or raises KeyboardInterrupt when there are none.

    The fleet is ended in any case.
    """
    before, began_s = machine(), time.monotonic()

    def tell(text: str) -> None:
        say(f"[{time.monotonic() - began_s:6.0f} s] {text}")

    with ends_on_signals(), _folder(options) as folder:
        tell(f"starting a fleet of {options.nodes} nodes")
        with RealFleet(folder, options.nodes) as fleet, fleet.api() as api:
            hands = Hands(api, fleet.require_running)
            bench = _Bench(options, fleet, hands, tell)
            try:
                with hands.policy_kept():
                    bench.prepare()
                    bench.measure()
            except KeyboardInterrupt:
                if not bench.runs:
                    raise
                bench.interrupted = True
                tell("interrupted: what was measured until now is reported")
    return bench.document(before)


@contextmanager
def _folder(options: SurgeOptions) -> Iterator[Path]:
    if options.data_dir is not None:
        yield options.data_dir.expanduser().resolve()
        return
    with tempfile.TemporaryDirectory(prefix="trimtab-surge-", ignore_cleanup_errors=True) as folder:
        yield Path(folder) / "data"


class _Bench:
    """One run of the command on one fleet."""

    def __init__(self, options: SurgeOptions, fleet: RealFleet, hands: Hands, say: Say) -> None:
        self.runs: list[Run] = []
        self.interrupted = False
        self._options, self._hands, self._say = options, hands, say
        self._model = fleet.model
        self._doors = Doors.of(fleet.node_urls, fleet.model, options.timeout_s)
        self._default = INITIAL_SETTINGS
        self._loops: dict[Level, list[Loop]] = {}
        self._losses: dict[str, float] = {}
        self._notes: list[str] = []

    def prepare(self) -> None:
        """Everything that is decided before a policy runs."""
        self._hands.put_policy(untouched())
        for level in self._options.levels:
            self._measure_level(level)
        if not self._loops:
            raise CommandError(f"the nodes take none of the levels: {'; '.join(self._notes)}")
        self._losses = self._hands.losses({level.name for level in self._loops})
        self._budget = Budget.of(fastest_of(self._loops), self._losses, self._options.budget)
        self._kept = keepers(self._loops, self._losses, self._budget)
        if not self._kept:
            raise CommandError("no level keeps the quality budget: let --levels hold bf16, which loses nothing")
        self._objectives = self._given(objectives_of(self._loops, self._kept))
        self._capacities = {level: capacity_rps(loops, self._objectives) for level, loops in self._loops.items()}
        self._demand = Demand.of(self._capacities, self._kept, self._usable(), self._options.calm, self._options.surge)
        self._say_terms()
        self._planned = self._plan()

    def measure(self) -> None:
        """Round by round, every contestant once before any comes again."""
        field_ = contestants(self._options.policies, self._default, self._kept, self._options.grid)
        total = len(field_) * self._options.repeats
        for repeat in range(1, self._options.repeats + 1):
            for contestant in field_:
                self._say(f"run {len(self.runs) + 1} of {total}: {contestant.name}")
                self.runs.append(self._run(contestant, repeat))
                self._say_run(self.runs[-1])

    def document(self, before: dict[str, Any]) -> dict[str, Any]:
        terms = Terms(self._objectives, self._budget, self._losses, self._options.shape)
        rows = results(self.runs, terms)
        return {
            "benchmark": "surge",
            "interrupted": self.interrupted,
            "machine": before,
            "versions": versions(),
            "model": self._model,
            "options": _plain(self._options),
            "default_settings": self._default.model_dump(mode="json"),
            "objectives": {
                "ttft_s": round(self._objectives.ttft_s, 4), "mean_gap_ms": round(1e3 * self._objectives.itl_s, 3)
            },
            "capacities": [self._capacity_row(level) for level in self._loops],
            "budget": {
                "fastest_level": self._budget.fastest.name, "most": round(self._budget.most, 6),
                "average": round(self._budget.average, 6), "levels_within": [level.name for level in self._kept],
            },
            "load": self._load_row(),
            "results": rows,
            "sign": sign(rows),
            "notes": self._notes,
        }  # fmt: skip

    # Before any policy runs --------------------------------------------------------------------------------------

    def _measure_level(self, level: Level) -> None:
        self._say(f"{level.name}: rolling it out")
        try:
            self._hands.become(level.of(self._default).replace(max_batch_size=_MEASURED_BATCH), f"measure {level.name}")
        except LevelRefused as error:
            self._note(f"{level.name} was left out: {error}")
            return
        options = self._options
        loops = []
        for clients in CLIENTS:
            seed = f"{options.seed}/{level.name}/{clients}"
            outcomes = run_on_fast_loop(closed_loops(self._doors, options.lengths, clients, options.measure_s, seed))
            loops.append(loop_of(outcomes, clients, options.measure_s, options.lengths.answer.mean))
            self._say(
                f"{level.name}, {clients} clients a node: {loops[-1].rate_rps:.2f} requests/s, {1e3 * loops[-1].gap_s:.1f} ms "
                f"between tokens, TTFT p95 {loops[-1].ttft_p95_s:.2f} s"
            )
        self._loops[level] = loops

    def _given(self, derived: Objectives) -> Objectives:
        ttft_s, itl_ms = self._options.ttft_slo_s, self._options.itl_slo_ms
        return Objectives(ttft_s or derived.ttft_s, derived.itl_s if itl_ms is None else itl_ms / 1e3)

    def _usable(self) -> list[Level]:
        return [level for level in self._loops if self._losses[level.name] <= self._budget.most]

    def _say_terms(self) -> None:
        if self._demand.note is not None:
            self._note(self._demand.note)
        for level in near_ties(self._loops, self._losses) if self._options.budget is None else ():
            self._note(
                f"{level.name} is about as fast as {self._budget.fastest.name} and loses {self._losses[level.name]:.2%}: which "
                "of them sets the quality budget is chance; --budget sets it by hand"
            )
        if self._budget.average == 0:
            self._note("the fastest level loses nothing: there is no budget to spend, and no lossy level may be used")
        rates = self._demand.rates
        self._say(
            f"objectives: TTFT {self._objectives.ttft_s:.3f} s, {1e3 * self._objectives.itl_s:.1f} ms between tokens. Budget: an "
            f"average loss of {self._budget.average:.2%}; {self._budget.fastest.name} is fastest and loses "
            f"{self._losses[self._budget.fastest.name]:.2%}. "
            f"Calm {rates.calm_rps:.2f}, surge {rates.surge_rps:.2f} requests/s"
        )

    def _plan(self) -> tuple[Planned, ...]:
        options, shape, rates = self._options, self._options.shape, self._demand.rates
        if options.trace is None:
            times = surge_times(shape, rates, options.seed)
        else:
            times = trace_times(read_requests(options.trace), shape, rates.calm_rps, options.seed)
        return requests_at(times, options.lengths, options.seed)

    # Under load --------------------------------------------------------------------------------------------------

    def _run(self, contestant: Contestant, repeat: int) -> Run:
        self._hands.put_policy(untouched())
        self._hands.become(contestant.settings, f"begin of {contestant.name}")
        if contestant.is_tuned:
            self._hands.put_policy(tuning(self._objectives, self._budget))
        began = pool_hands.now()
        mark = _MARKS[len(self.runs) % len(_MARKS)]
        outcomes = run_on_fast_loop(open_loop(self._doors, self._planned, mark))
        deeds: Deeds | None = None
        if contestant.is_tuned:
            deeds = self._hands.deeds(began, self._options.warm_s)
        self._hands.put_policy(untouched())
        return Run(contestant, repeat, outcomes, deeds)

    def _say_run(self, run: Run) -> None:
        terms = Terms(self._objectives, self._budget, self._losses, self._options.shape)
        row = results([run], terms)[0]
        share, loss = row["slo_attainment"], row["quality_loss"]
        self._say(
            f"{run.contestant.name}: {'-' if share is None else f'{share:.2%}'} of {row['requests']} within the objectives, "
            f"quality loss {'-' if loss is None else f'{loss:.2%}'}, {row['refused']} refused, {row['failed']} failed, "
            f"{row['changes']} changes, {row['rollbacks']} rollbacks"
        )

    def _note(self, text: str) -> None:
        self._notes.append(text)
        self._say(text)

    # Document ----------------------------------------------------------------------------------------------------

    def _capacity_row(self, level: Level) -> dict[str, Any]:
        return {
            "level": level.name,
            "quality_loss": round(self._losses[level.name], 6),
            "capacity_rps": round(self._capacities[level], 3),
            "loops": [loop.row() for loop in self._loops[level]],
        }

    def _load_row(self) -> dict[str, Any]:
        rates, carries = self._demand.rates, self._capacities[self._demand.best]
        return {
            "kind": "schedule" if self._options.trace is None else "trace",
            "calm_rps": round(rates.calm_rps, 3), "surge_rps": round(rates.surge_rps, 3),
            "calm_multiple": round(rates.calm_rps / carries, 3), "surge_multiple": round(rates.surge_rps / carries, 3),
            "multiples_of": self._demand.best.name, "requests": len(self._planned),
            "warm_s": self._options.warm_s, "scored_s": self._options.shape.scored_s,
        }  # fmt: skip


def _plain(options: SurgeOptions) -> dict[str, Any]:
    lengths = options.lengths
    return {
        "nodes": options.nodes, "minutes": options.minutes, "levels": [level.name for level in options.levels],
        "policies": list(options.policies),
        "grid": None if options.grid is None else [f"{level.name}:{batch}" for level, batch in options.grid],
        "repeats": options.repeats, "measure_s": options.measure_s, "seed": options.seed, "timeout_s": options.timeout_s,
        "prompt_tokens": [lengths.prompt.least, lengths.prompt.most],
        "output_tokens": [lengths.answer.least, lengths.answer.most],
        "ttft_slo_s": options.ttft_slo_s, "itl_slo_ms": options.itl_slo_ms,
        "budget": options.budget, "calm": options.calm, "surge": options.surge,
        "trace": None if options.trace is None else options.trace.name,
    }  # fmt: skip
