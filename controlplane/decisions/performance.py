"""From settings and load to latency and throughput of a pool: the step time, with a little queueing theory on top.

A request of P prompt and G answer tokens holds a row of the batch for G steps and needs P tokens of prefill. With B rows busy the
node spends `G * (base / B + row) + P * prefill` seconds on each request, so capacity grows with B until the rows dominate.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median

from controlplane.decisions.decision import StepTime, Workload
from controlplane.telemetry.observation import Observation
from inference_node.contract.settings import EngineSettings
from inference_node.contract.step_profile import interpolate

_TAIL_WINDOWS = 12
_TAIL_BOUNDS = (0.7, 3.0)
# Erlang's delay formula is left where a queue is all but sure; a fluid backlog tells the rest.
_ALMOST_FULL = 0.999
_ENDLESS = 1_000_000  # requests that wait


@dataclass(frozen=True, slots=True)
class Tails:
    """How much heavier the measured 95 % quantiles are than the model's, as factors learned from recent windows."""

    ttft: float = 1.0
    itl: float = 1.0


@dataclass(frozen=True)
class PoolModel:
    """A pool of `nodes` equal nodes under `settings`; the load is spread evenly. Implements `projection.ServiceModel`.

    sees_prompts_queue: where prompts are long beside answers a full batch holds rows that still wait for the rest of their
    prompt, a queue within the batch that rules before 4 did not see. The waiting queue then counts as endless here, so that a
    limit of it does not make an overload look like none; `admission` looks at the limit. kv_rows: how many requests a node's
    cache of keys and values has room for, where that bounds the rows.
    """

    settings: EngineSettings
    step: StepTime
    workload: Workload
    nodes: int
    tails: Tails = Tails()
    step_time_ratio: float = 1.0
    sees_prompts_queue: bool = False
    kv_rows: float | None = None

    @cached_property
    def _rows(self) -> int:
        most = min(self.settings.max_batch_size, self.settings.max_batched_tokens)
        return max(1, most if self.kv_rows is None else min(most, int(self.kv_rows)))

    @property
    def rows_without_memory(self) -> int:
        """Rows of the batch that are never filled, since the keys and values of the others take the memory: a node lets requests
        in for them, which then wait."""
        return self.settings.max_batch_size - self._rows

    @cached_property
    def _prefill_budget(self) -> float:
        """Prompt tokens that fit into a step beside full decode rows."""
        return max(1.0, float(self.settings.max_batched_tokens - self._rows))

    @cached_property
    def _steps_per_request(self) -> float:
        """Of a full node: as many as its answer takes of the batch, or its prompt of the token budget."""
        load = self.workload
        return max(load.generation_tokens / self._rows, load.prompt_tokens / self._prefill_budget)

    @cached_property
    def _decoding(self) -> float:
        """Rows of a full batch that are past their prompt, at least one."""
        return min(max(self.workload.generation_tokens / self._steps_per_request, 1.0), float(self._rows))

    def prompts_in_batch_s(self, rate: float) -> float:
        """How long the prompts take that are ahead in a full batch, when `rate` is more than the pool carries.

        In an overload that lasts, those of the rows that do not decode yet leave at the rate of requests. In one that has just
        begun, rows fill faster than prompts are computed, with nothing else to compute: of those that came a share of
        1 / (rate * time of a prompt) is through.
        """
        load, step = self.workload, self.step
        steps = load.prompt_tokens / self._prefill_budget
        prompt_s = (steps * step.base_s + load.prompt_tokens * step.prefill_token_s) * self.step_time_ratio
        lasting_s = (self._rows - self._decoding) / self.node_rps
        come_per_prompt = rate / self.nodes * prompt_s
        if come_per_prompt <= 1:
            return lasting_s
        return max(lasting_s, (self._rows - 1) * (1 - 1 / come_per_prompt) * prompt_s)

    @property
    def node_rps(self) -> float:
        """What one node gets done."""
        return self.capacity_rps / self.nodes

    @cached_property
    def node_seconds_per_request(self) -> float:
        """Time that one request costs a full node."""
        load, step = self.workload, self.step
        steps = self._steps_per_request
        rows = load.generation_tokens * step.row_s + steps * step.curve_s(load.generation_tokens / steps)
        return (steps * step.base_s + rows + load.prompt_tokens * step.prefill_token_s) * self.step_time_ratio

    @cached_property
    def capacity_rps(self) -> float:
        return self.nodes / max(self.node_seconds_per_request, 1e-9)

    @property
    def queue_limit(self) -> float:
        return float(self.nodes * (_ENDLESS if self.sees_prompts_queue else self.settings.max_queue))

    @property
    def throughput_tokens_per_s(self) -> float:
        """Answer tokens per second at full load."""
        return self.capacity_rps * self.workload.generation_tokens

    def running_rows(self, rate: float) -> float:
        """Rows busy on a node at `rate`, by Little's law with a step that gets longer as rows fill."""
        node_rate = rate / self.nodes
        load, step, ratio = self.workload, self.step, self.step_time_ratio
        per_row = load.prompt_tokens * step.prefill_token_s + load.generation_tokens * step.row_s
        # Straight from one knot of the curve to the next: within the first piece that holds a solution, it is the line's.
        low, low_s = 0, 0.0
        for knot, knot_s in (*step.curve, (self._rows, interpolate(step.curve, self._rows))):
            slope = (knot_s - low_s) / (knot - low) if knot > low else 0.0
            spare = 1 - ratio * node_rate * (per_row + load.generation_tokens * slope)
            if spare > 0:
                fixed_s = step.base_s + low_s - slope * low
                rows = node_rate * load.generation_tokens * fixed_s * ratio / spare
                if rows <= knot:
                    return min(float(self._rows), max(rows, 0.0))
            if knot >= self._rows:
                break
            low, low_s = knot, knot_s
        return float(self._rows)

    def step_mean_s(self, rate: float) -> float:
        """Mean step at `rate`, its share of prefill included."""
        rows = self.running_rows(rate)
        prefill = (
            self.workload.prompt_tokens * rows / self.workload.generation_tokens
        )  # each row ends after that many steps
        return self.step.at(rows, min(prefill, self._prefill_budget)) * self.step_time_ratio

    def itl_p95_s(self, rate: float) -> float:
        """A gap is a step; what makes the long ones is prefill in between, so the 95 % step carries that quantile of arrivals."""
        rows = max(1.0, self.running_rows(rate))
        arrivals = _poisson_q95(rate / self.nodes * self.step_mean_s(rate))
        prefill = min(arrivals * self.workload.prompt_tokens, self._prefill_budget)
        return self.step.at(rows, prefill) * self.step_time_ratio * self.tails.itl

    @property
    def full_itl_s(self) -> float:
        """Gap between tokens with every row busy and prefill going on: the worst that the settings allow."""
        return self.itl_p95_s(self.capacity_rps)

    def base_ttft_p95_s(self, rate: float) -> float:
        """Without queueing for a row; in a full batch behind the prompts that are in it already."""
        own = self.own_ttft_p95_s(rate)
        if self.sees_prompts_queue and rate >= _ALMOST_FULL * self.capacity_rps:
            return own + self.prompts_in_batch_s(rate)
        return own

    def own_ttft_p95_s(self, rate: float) -> float:
        """The step under way, then the prompt's own chunks among the running rows; an idle engine first gathers company."""
        rows = self.running_rows(rate)
        chunks = math.ceil(self.workload.prompt_tokens / self._prefill_budget)
        chunk = min(self.workload.prompt_tokens, self._prefill_budget)
        own = (chunks + 1) * self.step.at(rows, chunk) * self.step_time_ratio
        idle = 1 / (1 + rows)  # share of arrivals that find the engine empty and wait for company
        return (own + idle * self.settings.batch_wait_ms / 1000) * self.tails.ttft

    def wait_p95_s(self, rate: float, elapsed_s: float) -> float:
        """95 % quantile of waiting for a row, by chance alone.

        Each node is a queue of its own with a row per server. Erlang-C in Sakasegawa's approximation (Annals of the Institute of
        Statistical Mathematics 29, 1977) with an exponential tail, times Allen and Cunneen's (ca2 + cs2) / 2: spreading Poisson
        arrivals in turn over n nodes leaves ca2 = 1 / n, and answers are cut at a maximum, which leaves cs2 about 0.5.
        Bounded by how far a random walk of arrivals and completions gets in `elapsed_s`, once it has filled the free rows.
        """
        node_rate, node_capacity = max(rate, 0.0) / self.nodes, self.capacity_rps / self.nodes
        variation = (1 / self.nodes + 0.5) / 2
        servers = self._decoding if self.sees_prompts_queue else float(self._rows)
        free = max(0.0, servers - self.running_rows(rate))
        drift = max(0.0, 1.645 * math.sqrt(2 * variation * node_rate * elapsed_s) - free) / node_capacity
        busy = node_rate / node_capacity
        if busy >= _ALMOST_FULL:
            return drift
        waits = busy ** (math.sqrt(2 * (servers + 1)) - 1)
        if waits <= 0.05:
            return 0.0
        return min(drift, variation * math.log(waits / 0.05) / (node_capacity * (1 - busy)))


def workload_of(history: Sequence[Observation]) -> Workload | None:
    """The average request of the windows (newest count most), or None when no request has finished in them."""
    prompt = answer = total = 0.0
    weight = 1.0
    for seen in reversed(history):
        if seen.prompt_tokens_mean is not None and seen.generation_tokens_mean is not None and seen.requests:
            share = weight * seen.requests
            prompt += share * seen.prompt_tokens_mean * (1 - (seen.prefix_hit_ratio or 0.0))
            answer += share * seen.generation_tokens_mean
            total += share
            weight *= 0.95
    return Workload(max(prompt / total, 1.0), max(answer / total, 1.0)) if total > 0 else None


def tails_of(history: Sequence[Observation], model: PoolModel) -> Tails:
    """Factors between measured and modelled quantiles, over recent windows without a queue (a queue has its own term)."""
    calm = [w for w in history[-_TAIL_WINDOWS:] if w.usable and w.offered_rps and (w.waiting or 0) < 1]
    ttft = [w.ttft_p95_s / model.base_ttft_p95_s(w.offered_rps) for w in calm if w.ttft_p95_s and w.offered_rps]
    itl = [w.itl_p95_s / model.itl_p95_s(w.offered_rps) for w in calm if w.itl_p95_s and w.offered_rps]
    return Tails(_bounded(ttft), _bounded(itl))


def _bounded(ratios: Sequence[float]) -> float:
    if len(ratios) < 3:
        return 1.0
    return min(max(median(ratios), _TAIL_BOUNDS[0]), _TAIL_BOUNDS[1])


def _poisson_q95(mean: float) -> int:
    """Smallest k with P(N <= k) >= 0.95."""
    term = total = math.exp(-min(mean, 700.0))
    k = 0
    while total < 0.95 and k < 1000:
        k += 1
        term *= mean / k
        total += term
    return k
