"""The node's own reflex: how many sequences may run so that inter-token latency stays at its target."""

import math
from collections import deque
from dataclasses import dataclass, field

# Latencies remembered under one cap; 64 place a 95th percentile.
_WINDOW = 64
# Steps to watch under a new cap before it is judged, and how many of them must be too slow: one or two are chance.
_SETTLE_STEPS, _WITNESSES = 8, 3
_QUANTILE = 0.95
# Inside 5 % of the target nothing moves; below 90 % there is room to grow by trial, below 95 % where the step model agrees.
_TOO_SLOW, _ROOM, _ROOM_KNOWN = 1.05, 0.90, 0.95
_STRONGEST_CUT, _STRONGEST_GROWTH = 0.5, 2.0
# A batch that proved too slow is tried again after this many steps, and each time after twice as many.
_FIRST_PATIENCE, _LONGEST_PATIENCE = 64, 2048


@dataclass(slots=True)
class LatencyReflex:
    """Shrinks fast, grows slowly: judges by the 95th percentile of measured latencies, bounded, and only on evidence.

    A cap is judged only by steps that ran under it: while a lowered cap still drains, latency says nothing about it. It grows
    only when the cap is what holds requests back: by one (or a sixteenth) on trial, or to what the step model foresees, at most
    double. Method: after Pang et al., "Optimizing LLM Inference Throughput via Memory-aware and SLA-constrained Dynamic Batching"
    (2025), which searches the batch between two bounds by measured latency; the search by a step model and our bounds are ours.
    """

    target_s: float
    low: int
    high: int
    cap: int
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=_WINDOW))
    # The batch that was too slow last, how long ago, and how long to keep away from it.
    ceiling: int | None = None
    since_cut: int = 0
    patience: int = _FIRST_PATIENCE

    @classmethod
    def of(cls, *, target_itl_ms: float, start: int, low: int, high: int) -> "LatencyReflex":
        low, high = max(1, min(low, high)), max(low, high)
        return cls(target_s=target_itl_ms / 1e3, low=low, high=high, cap=min(max(start, low), high))

    def observe(
        self, itl_s: float, decode_rows: int, wanted: int, *, foreseen: int | None = None, may_grow: bool = True
    ) -> int:
        """One step gave `decode_rows` sequences a token after itl_s, while `wanted` run or wait. Returns the cap from here on.

        foreseen: the largest batch that the step model expects to be in time, None without one. may_grow: memory has room.
        """
        if self.target_s <= 0 or decode_rows == 0:
            return self.cap
        if decode_rows > self.cap:  # still draining
            self.recent.clear()
            return self.cap
        self.recent.append(itl_s)
        self.since_cut += 1
        if len(self.recent) < _SETTLE_STEPS:
            return self.cap
        slow = sum(seen > _TOO_SLOW * self.target_s for seen in self.recent)
        if slow >= _WITNESSES and slow > (1 - _QUANTILE) * len(self.recent):
            self._shrink(decode_rows, foreseen)
        elif may_grow and wanted > self.cap and decode_rows >= self.cap:
            self._grow(foreseen)
        return self.cap

    def _p95_s(self) -> float:
        return sorted(self.recent)[math.ceil(_QUANTILE * len(self.recent)) - 1]

    def _shrink(self, decode_rows: int, foreseen: int | None) -> None:
        if self.ceiling is not None and decode_rows >= self.ceiling:
            self.patience = min(2 * self.patience, _LONGEST_PATIENCE)
        self.ceiling, self.since_cut = decode_rows, 0
        # Judged by what ran: a cap far above the running batch would otherwise be cut many times without effect.
        cut = int(decode_rows * max(_STRONGEST_CUT, self.target_s / self._p95_s()))
        if foreseen is not None and foreseen < decode_rows:  # latency is not proportional to rows: the model cuts less
            cut = max(cut, foreseen)
        self._move(min(self.cap - 1, cut))

    def _grow(self, foreseen: int | None) -> None:
        knows_room = foreseen is not None and foreseen > self.cap
        if self._p95_s() >= (_ROOM_KNOWN if knows_room else _ROOM) * self.target_s:
            return
        grown = self.cap + max(1, self.cap // 16)
        if knows_room:
            assert foreseen is not None
            grown = max(grown, min(foreseen, int(self.cap * _STRONGEST_GROWTH)))
        if self.ceiling is not None and grown >= self.ceiling and self.since_cut < self.patience:
            grown = self.ceiling - 1
        if grown > self.cap:
            self._move(grown)

    def _move(self, cap: int) -> None:
        self.cap = min(max(cap, self.low), self.high)
        self.recent.clear()
