"""Whether a window can be true: what poisoned counters, spoilt clocks and duplicated series give away.

Rests on what must hold in any queue rather than on limits fitted to some traffic: what arrives is finished, refused or
still there; part of a latency is not longer than the whole; a latency does not multiply while nothing else moves. A surge
passes, since queue and arrivals tell the same story; a spoilt figure does not, since the others contradict it.
"""

from collections.abc import Sequence
from statistics import median

from controlplane.telemetry.observation import Observation

# Gauges are read at a scrape and counters extrapolated to the window's ends: each may be off by a good part of a window.
_SLACK_RATIO, _SLACK_REQUESTS = 0.75, 12.0
_QUANTILE_SLACK = 1.3  # quantiles are interpolated within buckets
_JUMP, _MOVED = 6.0, 1.3
_PAST_WINDOWS = 12
_LATENCIES = ("ttft_p95_s", "itl_p95_s", "e2e_p95_s")
_COMPANIONS = (
    "waiting",
    "running",
    "offered_rps",
    "step_mean_s",
    "prompt_tokens_mean",
    "queue_p95_s",
    "decode_rows_mean",
)


def implausible(seen: Observation, before: Sequence[Observation]) -> str | None:
    """Why `seen` cannot be true, in words, or None. before: earlier plausible windows, oldest first; may be empty."""
    known = [past for past in before if past.usable and past.window_end < seen.window_end][-_PAST_WINDOWS:]
    return _clock(seen, before) or _within_itself(seen) or _balance(seen, known) or _latency_alone(seen, known)


def _clock(seen: Observation, before: Sequence[Observation]) -> str | None:
    if before and seen.window_end < before[-1].window_end:
        back_s = (before[-1].window_end - seen.window_end).total_seconds()
        return f"the window ends {back_s:.0f} s before one that is known already: a clock was set back"
    return None


def _within_itself(seen: Observation) -> str | None:
    for low, high in (("ttft_p50_s", "ttft_p95_s"), ("itl_p50_s", "itl_p95_s")):
        a, b = getattr(seen, low), getattr(seen, high)
        if a is not None and b is not None and a > _QUANTILE_SLACK * b:
            return f"{low} ({a:.3g} s) is above {high} ({b:.3g} s)"
    for part, whole in (("queue_p95_s", "e2e_p95_s"), ("queue_p95_s", "ttft_p95_s")):
        a, b = getattr(seen, part), getattr(seen, whole)
        # Requests that finished in a window are not those that began in it: only a gross contradiction counts.
        if a is not None and b is not None and a > 0.05 and a > _JUMP * b:
            return f"{part} ({a:.3g} s) is far above {whole} ({b:.3g} s), of which it is a part"
    if seen.kv_usage is not None and seen.kv_usage > 1.05:
        return f"kv_usage is {seen.kv_usage:.2f}, more than all there is"
    if seen.prefix_hit_ratio is not None and seen.prefix_hit_ratio > 1.05:
        return f"prefix_hit_ratio is {seen.prefix_hit_ratio:.2f}, more than all tokens"
    return None


def _balance(seen: Observation, known: Sequence[Observation]) -> str | None:
    """Arrivals = finished + refused + what is there more than before, over the time since the window before."""
    if not known or seen.offered_rps is None or seen.requests is None or seen.running is None or seen.waiting is None:
        return None
    last = known[-1]
    if last.running is None or last.waiting is None or last.nodes_up != seen.nodes_up:
        return None  # what a lost node had under way is neither finished nor there
    apart_s = (seen.window_end - last.window_end).total_seconds()
    if apart_s > 2 * seen.window_s:
        return None  # too much may have happened in between
    arrived = seen.offered_rps * seen.window_s
    gone = seen.requests + (seen.errors or 0.0) + (seen.rejected or 0.0)
    more = (seen.running + seen.waiting - last.running - last.waiting) * seen.window_s / apart_s
    accounted = gone + more
    slack = _SLACK_REQUESTS + _SLACK_RATIO * max(min(arrived, gone + abs(more)), _usual(known, seen.window_s))
    if abs(arrived - accounted) > slack:
        return (
            f"{arrived:.0f} requests arrived, but {gone:.0f} finished or were refused and {more:+.0f} are there more than "
            "before: the figures contradict each other"
        )
    return None


def _latency_alone(seen: Observation, known: Sequence[Observation]) -> str | None:
    """A latency that multiplies from one window to the next while neither queue, load, batch nor step time moves."""
    for name in _LATENCIES:
        now = getattr(seen, name)
        past = [value for window in known if (value := getattr(window, name)) is not None]
        if now is None or len(past) < _PAST_WINDOWS // 2 or now <= _JUMP * max(past):
            continue
        if not any(_moved(seen, known, companion) for companion in _COMPANIONS):
            return f"{name} is {now:.3g} s after at most {max(past):.3g} s, while queue, load and step time stand still"
    return None


def _moved(seen: Observation, known: Sequence[Observation], name: str) -> bool:
    now = getattr(seen, name)
    past = [value for window in known if (value := getattr(window, name)) is not None]
    return now is not None and bool(past) and now > _MOVED * max(past) + 1e-9


def _usual(known: Sequence[Observation], window_s: float) -> float:
    """Arrivals of a usual window."""
    rates = [window.offered_rps for window in known if window.offered_rps is not None]
    return median(rates) * window_s if rates else 0.0
