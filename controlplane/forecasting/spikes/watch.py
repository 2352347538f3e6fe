"""What the controller keeps in memory to foresee spikes: the newest model, and each pool's last two hours.

All of it can be had again from SQL: a controller that takes a pool over reads its windows once and goes on where the other
stopped.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import structlog
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from controlplane.forecasting.models import SpikeModelRecord
from controlplane.forecasting.series import Series
from controlplane.forecasting.spikes.assess import Assessment, assess
from controlplane.forecasting.spikes.lookback import Lookback
from controlplane.forecasting.spikes.risk import COLD_WATCH, SpikeRisk, UnknownModel
from controlplane.forecasting.spikes.standing import Thresholds
from controlplane.forecasting.spikes.thresholds import ANY_POOL, Setting
from controlplane.telemetry.observation import Observation

log = structlog.get_logger(__name__)

# No page without a model: what the fluid outlook is sure of, it is sure of too rarely to be counted on.
COLD: Thresholds = {Setting.WATCH: COLD_WATCH, Setting.PAGE: None}


@dataclass(frozen=True, slots=True)
class Look:
    """An assessment with what is needed to act on it. `measured`: [N] whether each window is known."""

    found: Assessment
    thresholds: Thresholds
    measured: list[bool]
    step_s: float


class SpikeWatch:
    """Not thread-safe."""

    def __init__(self, step_s: float) -> None:
        self._step_s = step_s
        self._version = 0
        self._model: SpikeRisk | None = None
        self._thresholds: dict[str, dict[str, float | None]] = {}
        self._pools: dict[str, tuple[int, Lookback]] = {}

    def refresh(self, session: Session) -> None:
        """Takes the newest model where there is a newer one. One that cannot be read is passed over, and said so once."""
        newest = session.scalar(select(func.max(SpikeModelRecord.version)))
        if newest is None or newest == self._version:
            return
        self._version = newest
        row = session.get_one(SpikeModelRecord, newest)
        try:
            self._model, self._thresholds = SpikeRisk.from_bytes(row.content), dict(row.thresholds)
        except UnknownModel as error:
            log.warning("spike_model_unreadable", version=newest, reason=error.detail)

    def look(
        self,
        pool_id: str,
        epoch: int,
        seen: Observation,
        before: Callable[[], Iterable[Observation]],
        *,
        slo_s: float,
        full_rows: float,
    ) -> Look | None:
        """With the newest window. before: the pool's windows so far, read where this epoch has none in memory. None where
        nothing can be said."""
        of_epoch, lookback = self._pools.get(pool_id, (None, None))
        if lookback is None or of_epoch != epoch:
            lookback = Lookback(self._step_s)
            lookback.push(before())
            self._pools[pool_id] = (epoch, lookback)
        lookback.push([seen])
        past = lookback.history()
        if past is None or lookback.end != seen.window_end:
            return None
        found = assess(past, slo_s, self._model, lookback.costs(full_rows))
        if found is None:
            return None
        if self._model is not None:
            found = replace(found, model=f"learned v{self._version}")
        measured = np.isfinite(past.arrivals).tolist()
        return Look(found, self.thresholds(pool_id), measured, self._step_s)

    def minutes(self, pool_id: str) -> Series | None:
        """The pool's load by the minute, as far as it was looked at."""
        _, lookback = self._pools.get(pool_id, (None, None))
        return None if lookback is None else lookback.minutes()

    def thresholds(self, pool_id: str) -> Thresholds:
        """Of the pool, or what suits any pool; the cold start's where no model is there."""
        if self._model is None:
            return COLD
        of_pool = self._thresholds.get(pool_id) or self._thresholds.get(ANY_POOL, {})
        return {setting: of_pool.get(setting.value) for setting in Setting}

    def forget_all_but(self, pool_ids: set[str]) -> None:
        """Of pools that are gone."""
        for pool_id in [pool_id for pool_id in self._pools if pool_id not in pool_ids]:
            del self._pools[pool_id]

    def forget(self, pool_id: str) -> None:
        self._pools.pop(pool_id, None)
