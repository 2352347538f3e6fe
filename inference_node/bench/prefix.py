"""The shared-prefix load: many questions behind one long system prompt, which a prefix cache computes once.

512 shared and 32 own tokens, 32 out: first cold and warm first tokens of one stream, then 32 requests at 8 streams behind a
new prefix, whose first request is cold, too.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from inference_node.bench.contender import Contender
from inference_node.bench.figures import spread, summary_ms
from inference_node.bench.load import Target
from inference_node.bench.prompts import TokenPrompts
from inference_node.bench.rates import Rates
from inference_node.bench.trial import Trial, kept, run_trial

SHARED_TOKENS, OWN_TOKENS, OUTPUT_TOKENS = 512, 32, 32
REQUESTS, CONCURRENCY = 32, 8
_PROBES = 3


@dataclass(frozen=True, slots=True)
class PrefixTrial:
    """`cold` are single requests behind prefixes never seen, `warm` further ones behind one that was, `load` all at once."""

    cold: Trial
    warm: Trial
    load: Trial


async def run_prefix_trial(
    target: Target, prompts: TokenPrompts, server_pid: int, rates: Rates | None, seed: str
) -> PrefixTrial:
    tokens = SHARED_TOKENS + OWN_TOKENS
    short, whole = replace(target, output_tokens=2), replace(target, output_tokens=OUTPUT_TOKENS)
    cold = prompts.make(_PROBES, tokens, 0, f"{seed}/cold")
    first, *warm = prompts.make(_PROBES + 1, tokens, SHARED_TOKENS, f"{seed}/warm")
    cold_trial = await run_trial(short, [*cold, first], 1, server_pid, rates)
    warm_trial = await run_trial(short, warm, 1, server_pid, rates)
    load = prompts.make(REQUESTS, tokens, SHARED_TOKENS, f"{seed}/load")
    return PrefixTrial(cold_trial, warm_trial, await run_trial(whole, load, CONCURRENCY, server_pid, rates))


def prefix_row(entrant: Contender, trials: Sequence[PrefixTrial]) -> dict[str, Any]:
    """One contender's figures over the repeats."""
    loads = kept([trial.load for trial in trials])
    cold = [statistics.median(trial.cold.ttft_s) for trial in trials if trial.cold.ttft_s]
    warm = [statistics.median(trial.warm.ttft_s) for trial in trials if trial.warm.ttft_s]
    shares = [w / c for w, c in zip(warm, cold, strict=False)]
    return {
        "contender": entrant.name,
        "engine": entrant.engine,
        "precision": entrant.precision.value,
        "pruning_threshold": entrant.pruning,
        "concurrency": CONCURRENCY,
        "ttft_cold_ms": summary_ms([value for trial in trials for value in trial.cold.ttft_s]),
        "ttft_warm_ms": summary_ms([value for trial in trials for value in trial.warm.ttft_s]),
        "ttft_warm_over_cold": spread(shares) | {"median": round(statistics.median(shares), 3)} if shares else None,
        "output_tokens_per_s": round(statistics.median(load.tokens_per_s for load in loads), 3),
        "output_tokens_per_s_spread": spread([load.tokens_per_s for load in loads]),
        "errors": sum(len(part.errors) for trial in trials for part in (trial.cold, trial.warm, trial.load)),
        "disturbed": sum(trial.load.occupancy.is_disturbed for trial in trials),
        "by_repeat": {
            "output_tokens_per_s": [trial.load.tokens_per_s for trial in trials],
            "ttft_warm_ms": [1000 * value for value in warm],
        },
        "runs": [{part: getattr(trial, part).described() for part in ("cold", "warm", "load")} for trial in trials],
    }
