"""The node's own reflex: how many sequences may run so that inter-token latency stays at its target."""

from dataclasses import dataclass

# Weight of a new step in the smoothed latency: about 8 steps of memory, so that one long prefill step alone moves little.
_SMOOTHING = 0.2
# Steps to watch under a new cap before it is judged; at 0.2 smoothing 83 % of the old state has faded after 8.
_SETTLE_STEPS = 8
# Inside 5 % of the target nothing moves; below 90 % there is room to grow.
_TOO_SLOW, _ROOM = 1.05, 0.90
_STRONGEST_CUT = 0.5
# One long step counts as twice the target at most, and what it leaves in the average has faded after 4 steps: so 5 in a row.
_SPIKE, _EVIDENCE = 2.0, 5
# A batch that proved too slow is tried again after this many steps, and each time after twice as many.
_FIRST_PATIENCE, _LONGEST_PATIENCE = 64, 2048


@dataclass(slots=True)
class LatencyReflex:
    """Shrinks fast, grows slowly: by the ratio of target to smoothed latency, bounded, and only on evidence.

    A cap is judged only by steps that ran under it: while a lowered cap still drains, latency says nothing about it. It
    grows by one (or a sixteenth) and only when the cap is what holds requests back. Method: after Pang et al., "Optimizing
    LLM Inference Throughput via Memory-aware and SLA-constrained Dynamic Batching" (2025), with bounds of our own.
    """

    target_s: float
    low: int
    high: int
    cap: int
    smoothed_s: float | None = None
    steps: int = 0
    slow_in_a_row: int = 0
    # The batch that was too slow last, how long ago, and how long to keep away from it.
    ceiling: int | None = None
    since_cut: int = 0
    patience: int = _FIRST_PATIENCE

    @classmethod
    def of(cls, *, target_itl_ms: float, start: int, low: int, high: int) -> "LatencyReflex":
        low, high = max(1, min(low, high)), max(low, high)
        return cls(target_s=target_itl_ms / 1e3, low=low, high=high, cap=min(max(start, low), high))

    def observe(self, step_s: float, decode_rows: int, wanted: int) -> int:
        """One step that gave `decode_rows` sequences a token, while `wanted` run or wait. Returns the cap from here on."""
        if self.target_s <= 0 or decode_rows == 0:
            return self.cap
        if decode_rows > self.cap:  # still draining
            self._restart()
            return self.cap
        seen = min(step_s, _SPIKE * self.target_s)
        before = seen if self.smoothed_s is None else self.smoothed_s
        self.smoothed_s = before + _SMOOTHING * (seen - before)
        is_slow = self.smoothed_s > _TOO_SLOW * self.target_s
        self.slow_in_a_row = self.slow_in_a_row + 1 if is_slow else 0
        self.steps += 1
        self.since_cut += 1
        if self.steps < _SETTLE_STEPS:
            return self.cap
        if self.slow_in_a_row >= _EVIDENCE:
            ratio = max(_STRONGEST_CUT, self.target_s / self.smoothed_s)
            if self.ceiling is not None and decode_rows >= self.ceiling:
                self.patience = min(2 * self.patience, _LONGEST_PATIENCE)
            self.ceiling, self.since_cut = decode_rows, 0
            # Judged by what ran: a cap far above the running batch would otherwise be cut many times without effect.
            self._move(min(self.cap - 1, int(decode_rows * ratio)))
        elif self.smoothed_s < _ROOM * self.target_s and wanted > self.cap and decode_rows >= self.cap:
            grown = self.cap + max(1, self.cap // 16)
            if self.ceiling is not None and grown >= self.ceiling and self.since_cut < self.patience:
                grown = self.ceiling - 1
            if grown > self.cap:
                self._move(grown)
        return self.cap

    def _move(self, cap: int) -> None:
        self.cap = min(max(cap, self.low), self.high)
        self._restart()

    def _restart(self) -> None:
        self.smoothed_s, self.steps, self.slow_in_a_row = None, 0, 0
