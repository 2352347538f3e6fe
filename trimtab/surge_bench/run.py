"""The whole benchmark: a fleet, what its levels carry, every policy under the same load, the document."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from inference_node.bench.figures import machine, versions
from inference_node.bench.loop import run_on_fast_loop
from inference_node.bench.occupancy import take_reading
from inference_node.bench.process import ends_on_signals
from trimtab.errors import CommandError
from trimtab.supervisor.specs import INITIAL_SETTINGS
from trimtab.surge_bench import hands as pool_hands
from trimtab.surge_bench.capacity import Loop, loop_of
from trimtab.surge_bench.client import Doors, closed_loops, open_loop
from trimtab.surge_bench.fleet import RealFleet
from trimtab.surge_bench.ground import Ground
from trimtab.surge_bench.hands import Hands, LevelRefused
from trimtab.surge_bench.level import Level
from trimtab.surge_bench.load import Planned, calm_times, requests_at, surge_times, window_times
from trimtab.surge_bench.options import SurgeOptions
from trimtab.surge_bench.policies import Contestant, contestants, tuning, untouched
from trimtab.surge_bench.report import Run, Terms, results, sign

Say = Callable[[str], None]

CLIENTS = (1, 2, 4, 8)
# While levels are measured: so large that CLIENTS at a node never wait for each other's place.
_MEASURED_BATCH = 16
# One stands in front of each prompt of a run, so that no run finds in the prefix cache what an earlier one left there.
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


def run(options: SurgeOptions, say: Say) -> dict[str, Any]:
    """Interrupted, or when the fleet fails on the way, it reports the runs that were through; where there are none it raises
    KeyboardInterrupt or CommandError.

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
                    bench.measure(bench.settle())
            except (KeyboardInterrupt, CommandError) as cause:
                if not bench.runs:
                    raise
                bench.break_off("interrupted" if isinstance(cause, KeyboardInterrupt) else str(cause))
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
        self._options, self._hands, self._say = options, hands, say
        self._model, self._pid = fleet.model, fleet.pid
        self._doors = Doors.of(fleet.node_urls, fleet.model, options.timeout_s)
        self._ground: Ground | None = None
        self._planned: tuple[Planned, ...] = ()
        self._interrupted = False
        self._notes: list[str] = []

    def settle(self) -> Ground:
        """Measures the levels, and says what follows from them."""
        self._hands.put_policy(untouched())
        loops = {level: own for level in self._options.levels if (own := self._measure_level(level)) is not None}
        if not loops:
            raise CommandError(f"the nodes take none of the levels: {'; '.join(self._notes)}")
        losses = self._hands.losses({level.name for level in loops})
        self._ground = ground = Ground.of(loops, losses, self._options, INITIAL_SETTINGS)
        for note in ground.notes:
            self._note(note)
        self._say(ground.words())
        self._planned = self._plan(ground)
        return ground

    def measure(self, ground: Ground) -> None:
        """Round by round, every contestant once before any comes again."""
        entered = contestants(self._options.policies, INITIAL_SETTINGS, ground.kept, self._options.grid)
        total = len(entered) * self._options.repeats
        for repeat in range(1, self._options.repeats + 1):
            for contestant in entered:
                self._say(f"run {len(self.runs) + 1} of {total}: {contestant.name}")
                self.runs.append(self._run(contestant, repeat, ground))
                self._say_run(self.runs[-1], ground)

    def break_off(self, why: str) -> None:
        self._interrupted = True
        self._note(f"ended early, and only the runs that were through are reported: {why}")

    def document(self, before: dict[str, Any]) -> dict[str, Any]:
        """To be asked once a run is through. before: the machine as it was."""
        assert self._ground is not None
        rows, plain = results(self.runs, self._terms(self._ground)), self._ground.plain()
        plain["load"] |= {
            "kind": "schedule" if self._options.window is None else "trace",
            "requests": len(self._planned),
        }
        return {
            "benchmark": "surge",
            "interrupted": self._interrupted,
            "machine": before,
            "versions": versions(),
            "model": self._model,
            "options": self._options.plain(),
            "default_settings": INITIAL_SETTINGS.model_dump(mode="json"),
            **plain,
            "results": rows,
            "sign": sign(rows),
            "notes": self._notes,
        }

    # Before any policy runs --------------------------------------------------------------------------------------

    def _measure_level(self, level: Level) -> list[Loop] | None:
        """None for a level that the nodes do not take."""
        self._say(f"{level.name}: rolling it out")
        settings = level.of(INITIAL_SETTINGS).replace(max_batch_size=_MEASURED_BATCH)
        try:
            self._hands.become(settings, f"measure {level.name}")
        except LevelRefused as error:
            self._note(f"{level.name} was left out: {error}")
            return None
        return [self._measure_loop(level, clients) for clients in CLIENTS]

    def _measure_loop(self, level: Level, clients: int) -> Loop:
        options, before = self._options, take_reading(self._pid)
        seed = f"{options.seed}/{level.name}/{clients}"
        outcomes = run_on_fast_loop(closed_loops(self._doors, options.lengths, clients, options.measure_s, seed))
        disturbed = before.until(take_reading(self._pid)).is_disturbed
        loop = replace(loop_of(outcomes, clients, options.measure_s, options.lengths.answer.mean), disturbed=disturbed)
        self._say(
            f"{level.name}, {clients} clients a node: {loop.rate_rps:.2f} requests/s, {1e3 * loop.gap_s:.1f} ms between tokens, "
            f"TTFT p95 {loop.ttft_p95_s:.2f} s{', disturbed' if disturbed else ''}"
        )
        return loop

    def _plan(self, ground: Ground) -> tuple[Planned, ...]:
        options, rates = self._options, ground.demand.rates
        if options.window is None:
            times = surge_times(options.shape, rates, options.seed)
        else:
            times = window_times(options.window, options.shape, rates.calm_rps, options.seed)
        return requests_at(times, options.lengths, options.seed)

    # Under load --------------------------------------------------------------------------------------------------

    def _run(self, contestant: Contestant, repeat: int, ground: Ground) -> Run:
        self._hands.put_policy(untouched())
        self._hands.become(contestant.settings, f"begin of {contestant.name}")
        if contestant.is_tuned:
            self._rest(ground.demand.rates.calm_rps)
            run_s = self._options.warm_s + 60 * self._options.minutes
            self._hands.put_policy(tuning(ground.objectives, ground.itl_p95_s, ground.budget, run_s))
        began, before = pool_hands.now(), take_reading(self._pid)
        mark = _MARKS[len(self.runs) % len(_MARKS)]
        outcomes = run_on_fast_loop(open_loop(self._doors, self._planned, mark))
        occupancy = before.until(take_reading(self._pid))
        deeds = self._hands.deeds(began, self._options.warm_s) if contestant.is_tuned else None
        self._hands.put_policy(untouched())
        if occupancy.is_disturbed:
            foreign = occupancy.foreign_ratio + occupancy.stolen_ratio
            self._note(
                f"other work took {foreign:.0%} of the processors during {contestant.name}, run {repeat}: it says little"
            )
        return Run(contestant, repeat, outcomes, deeds, occupancy)

    def _rest(self, calm_rps: float) -> None:
        """Calm load, so that the loops that measured, and surges of an earlier round, weigh less in the history that the
        controller forecasts from: it would plan for them to come again."""
        rest_s, seed = self._options.rest_s, self._options.seed + 1
        if rest_s:
            self._say(f"{rest_s:g} s of calm load first")
            planned = requests_at(calm_times(rest_s, calm_rps, seed), self._options.lengths, seed)
            run_on_fast_loop(open_loop(self._doors, planned, "calm"))

    def _say_run(self, run: Run, ground: Ground) -> None:
        row = results([run], self._terms(ground))[0]
        share, loss = row["slo_attainment"], row["quality_loss"]
        self._say(
            f"{run.contestant.name}: {'-' if share is None else f'{share:.2%}'} of {row['requests']} within the objectives, "
            f"quality loss {'-' if loss is None else f'{loss:.2%}'}, {row['refused']} refused, {row['failed']} failed, "
            f"{row['changes']} changes, {row['rollbacks']} rollbacks"
        )

    def _terms(self, ground: Ground) -> Terms:
        return Terms(ground.objectives, ground.budget, ground.losses, self._options.shape)

    def _note(self, text: str) -> None:
        self._notes.append(text)
        self._say(text)
