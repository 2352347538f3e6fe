"""The forecasts of the pools that one controller leads: fits that last, bands that learn from their misses, and the long view by
the minute. All but the fits outlives the process in SQL; those are made again in milliseconds."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from zlib import crc32

import structlog
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from controlplane.db import session_scope
from controlplane.forecasting.conformal import AdaptiveBands, restored, stored
from controlplane.forecasting.forecaster import Forecast
from controlplane.forecasting.guard import Guard
from controlplane.forecasting.models import ForecastBandRecord
from controlplane.forecasting.remembered import Fits
from controlplane.forecasting.selection import FORECASTERS, select_forecast
from controlplane.forecasting.series import Series
from controlplane.forecasting.service import LONG, METRICS, forecast_pool, save_forecasts
from controlplane.telemetry.observation import Observation

log = structlog.get_logger(__name__)

LONG_MINUTES = 15
_MIN_MINUTES = 20
_SAVED_EVERY = 20  # ticks: what is lost with a process is five minutes of learning
_LOAD = "offered_rps"


class LiveForecasts:
    """Not thread-safe."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._fits = Fits(lambda: FORECASTERS)
        self._guard = Guard()
        self._bands: dict[tuple[str, str], AdaptiveBands] = {}
        self._of_epoch: dict[str, int] = {}
        self._long: dict[str, Forecast] = {}
        self._minute: dict[str, int] = {}
        self._ticks = 0

    def forecast(
        self, pool_id: str, epoch: int, history: Sequence[Observation], minutes: Series | None, *, horizon_s: float
    ) -> dict[str, Forecast]:
        """metric -> forecast over the next `horizon_s`. minutes: the load by the minute, from which the long view is made."""
        self._take_over(pool_id, epoch)
        found = forecast_pool(
            history,
            horizon_s=horizon_s,
            forecasters=lambda metric: self._fits.of(pool_id, metric),
            guard=self._guard,
        )
        newest = history[-1]
        out = {}
        for metric, forecast in found.items():
            bands = self._bands.setdefault((pool_id, metric), AdaptiveBands())
            bands.came(newest.window_end, getattr(newest, metric) if newest.usable else None, forecast.step_s / 2)
            out[metric] = bands.widened(self._fits.judged(pool_id, metric, forecast))
        self._look_far(pool_id, minutes)
        return out

    def race_ahead(
        self, pool_id: str, history: Sequence[Observation], minutes: Series | None, *, horizon_s: float
    ) -> None:
        """Lets all methods race now where they would at the next forecast, which then need not wait for it."""
        due = [metric for metric in METRICS if self._fits.is_due(pool_id, metric)]
        found = forecast_pool(
            history,
            horizon_s=horizon_s,
            metrics=due,
            forecasters=lambda metric: self._fits.of(pool_id, metric),
            guard=self._guard,
        )
        if minutes is not None and self._fits.is_due(pool_id, _LOAD + LONG):
            found[_LOAD + LONG] = self._far(pool_id, minutes)
        for metric, forecast in found.items():
            self._fits.judged(pool_id, metric, forecast)

    def keep(self, session: Session, pool_id: str, now: datetime) -> None:
        """The long view, once a minute, and now and then how wide bands have to be. In the caller's transaction."""
        long = self._long.pop(pool_id, None)
        if long is not None:
            save_forecasts(session, pool_id, [long])
        self._ticks += 1
        if (self._ticks + crc32(pool_id.encode())) % _SAVED_EVERY:
            return
        for (of_pool, metric), bands in self._bands.items():
            if of_pool == pool_id:
                session.merge(ForecastBandRecord(pool_id=pool_id, metric=metric, at=now, sides=stored(bands)))

    def coverage(self) -> Mapping[str, Mapping[str, float]]:
        """Pool id -> horizon in seconds -> share of late loads that lay within their 80 % band."""
        found: dict[str, dict[str, float]] = {}
        for (pool_id, metric), bands in self._bands.items():
            if metric in (_LOAD, _LOAD + LONG) and (known := bands.coverage()):
                found.setdefault(pool_id, {}).update(known)
        return found

    def forget_all_but(self, pool_ids: set[str]) -> None:
        """Of pools that are gone."""
        self._fits.forget_all_but(pool_ids)
        for key in [key for key in self._bands if key[0] not in pool_ids]:
            del self._bands[key]
        for pool_id in [pool_id for pool_id in self._of_epoch if pool_id not in pool_ids]:
            del self._of_epoch[pool_id]
            self._minute.pop(pool_id, None)

    def _take_over(self, pool_id: str, epoch: int) -> None:
        """In a new epoch another controller may have learned more."""
        if self._of_epoch.get(pool_id) == epoch:
            return
        self._of_epoch[pool_id] = epoch
        with session_scope(self._engine, read_only=True) as session:
            rows = session.query(ForecastBandRecord).filter(ForecastBandRecord.pool_id == pool_id)
            known = {row.metric: row.sides for row in rows}
        for metric, sides in known.items():
            try:
                self._bands[pool_id, metric] = restored(sides)
            except (TypeError, ValueError) as error:
                log.warning("bands_unreadable", pool_id=pool_id, metric=metric, reason=str(error))

    def _look_far(self, pool_id: str, minutes: Series | None) -> None:
        """Fifteen minutes ahead, once a minute."""
        if minutes is None or len(minutes.values) < _MIN_MINUTES:
            return
        # Each pool has a second of its own at which its minute ends, so that not all of them look far in the same tick.
        minute = int((minutes.end.timestamp() + crc32(pool_id.encode()) % 60) // 60)
        # Of a pool just taken over it waits for the next one: the first tick has enough to fit.
        if self._minute.setdefault(pool_id, minute) == minute:
            return
        self._minute[pool_id] = minute
        metric = _LOAD + LONG
        found = self._far(pool_id, minutes)
        bands = self._bands.setdefault((pool_id, metric), AdaptiveBands())
        bands.came(minutes.end, minutes.values[-1], minutes.step_s / 2)
        self._long[pool_id] = bands.widened(self._fits.judged(pool_id, metric, found))

    def _far(self, pool_id: str, minutes: Series) -> Forecast:
        metric = _LOAD + LONG
        methods = self._fits.of(pool_id, metric)
        return select_forecast(replace(minutes, metric=metric), LONG_MINUTES, methods, self._guard)
