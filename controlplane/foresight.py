"""The spike part of a tick: looks ahead, hands the probability to the forecasts, and writes warnings in the tick's transaction.

What goes wrong here is told and costs the warning of one window; the decision is made all the same.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import structlog
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from controlplane.db import session_scope
from controlplane.decisions.policy import Policy
from controlplane.events import service as events
from controlplane.events.kinds import EventKind, Severity
from controlplane.forecasting.anomalies import Anomaly, AnomalyWatch
from controlplane.forecasting.forecaster import Forecast
from controlplane.forecasting.series import Series
from controlplane.forecasting.spikes import standing
from controlplane.forecasting.spikes.standing import Standing
from controlplane.forecasting.spikes.telemetry import LIVE_S
from controlplane.forecasting.spikes.watch import Look, SpikeWatch
from controlplane.telemetry import service as telemetry
from controlplane.telemetry.observation import Observation

log = structlog.get_logger(__name__)

_NOTHING = Standing()


def full_rows(policy: Policy) -> float:
    """Sequences that a node decodes at most at once, as far as it may be tuned: what a full step shares its base among."""
    bounds = policy.guardrails.bounds.get("max_batch_size")
    return 64.0 if bounds is None else float(bounds.max)


class Foresight:
    """Not thread-safe. Of the pools that one controller leads."""

    def __init__(self, engine: Engine, tick_s: float) -> None:
        self._engine, self._tick_s = engine, tick_s
        self._watch = SpikeWatch(tick_s)
        self._anomalies: dict[str, tuple[int, AnomalyWatch]] = {}
        self._odd: dict[str, Anomaly] = {}
        self._standing: dict[str, Standing] = {}
        self._used: set[str] | None = None  # pools that have had theirs since it was read; None: never read

    def begin(self, session: Session, now: datetime) -> None:
        """Reads what stands of all pools, and a newer model where there is one."""
        self._watch.refresh(session)
        self._standing, self._used = standing.standing(session, now), set()

    def look(self, pool_id: str, epoch: int, seen: Observation, policy: Policy) -> Look | None:
        """None where nothing can be said of the next ten minutes."""
        try:
            return self._watch.look(
                pool_id, epoch, seen, self._before(pool_id, seen.window_end),
                slo_s=policy.slo.ttft_p95_s, full_rows=full_rows(policy),
            )  # fmt: skip
        except Exception as error:  # noqa: BLE001 (a warning less; the tick goes on)
            log.warning("spikes_not_foreseen", pool_id=pool_id, reason=f"{type(error).__name__}: {error}")
            self._watch.forget(pool_id)
            return None

    def notice(self, pool_id: str, epoch: int, seen: Observation, history: Sequence[Observation]) -> None:
        """Holds the newest window against the pool's usual range. history: windows before it, for a pool new in this epoch."""
        of_epoch, watch = self._anomalies.get(pool_id, (None, None))
        if watch is None or of_epoch != epoch:
            watch = AnomalyWatch(self._tick_s)
            for before in history:
                watch.feed(before)
            self._anomalies[pool_id] = (epoch, watch)
        found = watch.feed(seen)
        if found is not None:
            self._odd[pool_id] = found

    def minutes(self, pool_id: str) -> Series | None:
        """The load by the minute of the last two hours, after `look`."""
        return self._watch.minutes(pool_id)

    def told(self, forecasts: Mapping[str, Forecast], look: Look | None) -> dict[str, Forecast]:
        """The forecasts with the probability in each."""
        if look is None:
            return dict(forecasts)
        probability = look.found.probability
        return {metric: replace(forecast, spike_probability=probability) for metric, forecast in forecasts.items()}

    def keep(self, session: Session, pool_id: str, look: Look | None, end: datetime) -> None:
        """Writes in the caller's transaction; trouble undoes this part of it only."""
        if (odd := self._odd.pop(pool_id, None)) is not None:
            events.record(
                session, kind=EventKind.FORECAST_ANOMALY, severity=Severity.WARNING, message=odd.message(), at=end,
                actor=standing.ACTOR, pool_id=pool_id,
                data={"metric": odd.metric, "direction": odd.direction.value, "usual": odd.usual, "now": odd.now},
            )  # fmt: skip
        if look is None:
            return
        try:
            with session.begin_nested():
                standing.keep(
                    session, pool_id, look.found, look.measured, look.thresholds, self._stands(session, pool_id, end),
                    end=end, step_s=look.step_s,
                )  # fmt: skip
        except Exception as error:  # noqa: BLE001 (as in `look`)
            log.warning("spike_warnings_not_kept", pool_id=pool_id, reason=f"{type(error).__name__}: {error}")

    def forget_all_but(self, pool_ids: set[str]) -> None:
        self._watch.forget_all_but(pool_ids)
        for pool_id in [pool_id for pool_id in self._anomalies if pool_id not in pool_ids]:
            del self._anomalies[pool_id]

    def _stands(self, session: Session, pool_id: str, now: datetime) -> Standing:
        """As `begin` read it; what a tick writes is read anew by the next `begin`, or here when there was none."""
        if self._used is None or pool_id in self._used:
            return standing.standing(session, now, [pool_id]).get(pool_id, _NOTHING)
        self._used.add(pool_id)
        return self._standing.get(pool_id, _NOTHING)

    def _before(self, pool_id: str, end: datetime) -> Callable[[], Iterable[Observation]]:
        def read() -> list[Observation]:
            since = end - timedelta(seconds=LIVE_S)
            with session_scope(self._engine, read_only=True) as session:
                return [seen for seen in telemetry.recent(session, pool_id, since, end) if seen.window_end < end]

        return read
