"""The forecasts of the pools that one controller leads: fits that last, bands that learn from their misses, the long view by the
minute, and what planning on the load's forecasts has been worth. All but the fits outlives the process in SQL; those are made
again in milliseconds."""

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
from controlplane.forecasting.merit import AT_FIRST, Merit
from controlplane.forecasting.merit import restored as from_json
from controlplane.forecasting.merit import stored as as_json
from controlplane.forecasting.models import ForecastBandRecord
from controlplane.forecasting.remembered import Fits
from controlplane.forecasting.selection import FORECASTERS, select_forecast
from controlplane.forecasting.series import Series
from controlplane.forecasting.service import LONG, METRICS, forecast_pool, save_forecasts
from controlplane.forecasting.track_record import TrackRecord, newest_forecast
from controlplane.telemetry.observation import Observation

log = structlog.get_logger(__name__)

LONG_MINUTES = 15
_MIN_MINUTES = 20
_SAVED_EVERY = 20  # ticks: what is lost with a process is five minutes of learning
_LOAD = "offered_rps"
# The newest load, repeated, has bands of its own misses under this name: it is no forecast that anybody is shown.
_NEWEST = _LOAD + "_newest"


class LiveForecasts:
    """Not thread-safe."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._fits = Fits(lambda: FORECASTERS)
        self._guard = Guard()
        self._bands: dict[tuple[str, str], AdaptiveBands] = {}
        self._records: dict[str, TrackRecord] = {}
        self._newest: dict[str, Forecast] = {}
        self._may_act: dict[str, bool] = {}  # as SQL has it
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
        self._hold_against_newest(pool_id, history, out.get(_LOAD), horizon_s)
        self._look_far(pool_id, minutes)
        return out

    def newest(self, pool_id: str) -> Forecast | None:
        """What the newest load alone says of the horizon of the last `forecast`; None where it was not measured."""
        return self._newest.get(pool_id)

    def merit(self, pool_id: str) -> Merit:
        """What planning on the pool's forecasts has been worth."""
        return self._record(pool_id).merit

    def feared(self, pool_id: str, at: datetime, rps: float, horizon_s: float) -> None:
        """Only the forecast saw a threat at `at`: that the load reaches `rps` within `horizon_s`."""
        self._record(pool_id).feared(at, rps, horizon_s)

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
        """The long view, once a minute; now and then how wide bands have to be and what forecasts are worth, and at once when
        they may act or no longer may. In the caller's transaction."""
        long = self._long.pop(pool_id, None)
        if long is not None:
            save_forecasts(session, pool_id, [long])
        self._ticks += 1
        merit = self.merit(pool_id)
        has_turned = self._may_act.get(pool_id, AT_FIRST) is not merit.may_act
        if (self._ticks + crc32(pool_id.encode())) % _SAVED_EVERY and not has_turned:
            return
        self._may_act[pool_id] = merit.may_act
        for (of_pool, metric), bands in self._bands.items():
            if of_pool == pool_id:
                worth = as_json(merit) if metric == _LOAD else None
                row = ForecastBandRecord(pool_id=pool_id, metric=metric, at=now, sides=stored(bands), merit=worth)
                session.merge(row)

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
            for kept in (self._minute, self._records, self._newest, self._may_act):
                kept.pop(pool_id, None)

    def _take_over(self, pool_id: str, epoch: int) -> None:
        """In a new epoch another controller may have learned more."""
        if self._of_epoch.get(pool_id) == epoch:
            return
        self._of_epoch[pool_id] = epoch
        with session_scope(self._engine, read_only=True) as session:
            rows = session.query(ForecastBandRecord).filter(ForecastBandRecord.pool_id == pool_id)
            known = {row.metric: (row.sides, row.merit) for row in rows}
        for metric, (sides, merit) in known.items():
            try:
                self._bands[pool_id, metric] = restored(sides)
                if merit is not None:
                    self._records[pool_id] = TrackRecord(from_json(merit))
                    self._may_act[pool_id] = self._records[pool_id].merit.may_act
            except (TypeError, ValueError) as error:
                log.warning("bands_unreadable", pool_id=pool_id, metric=metric, reason=str(error))

    def _hold_against_newest(
        self, pool_id: str, history: Sequence[Observation], forecast: Forecast | None, horizon_s: float
    ) -> None:
        """Scores what has come, and has the newest load say what it can of the same horizon."""
        seen, record = history[-1], self._record(pool_id)
        rate = seen.offered_rps if seen.usable else None
        record.came(seen.window_end, rate)
        self._newest.pop(pool_id, None)
        found = newest_forecast(history, horizon_s)
        if found is None:
            return
        bands = self._bands.setdefault((pool_id, _NEWEST), AdaptiveBands())
        bands.came(seen.window_end, rate, found.step_s / 2)
        self._newest[pool_id] = bands.widened(found)
        if forecast is not None:
            record.made(forecast, self._newest[pool_id], seen.window_s)

    def _record(self, pool_id: str) -> TrackRecord:
        return self._records.setdefault(pool_id, TrackRecord())

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
