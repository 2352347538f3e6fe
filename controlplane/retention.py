"""How long what piles up is kept: windows, forecasts, paid debts and signs of life go; decisions, rollouts and events stay."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete
from sqlalchemy.orm import InstrumentedAttribute, Session

from controlplane.accounts.models import Invitation, WebSession
from controlplane.alerts.models import Alert
from controlplane.db import Base, rows_matched
from controlplane.decisions.models import PerformanceModelRecord
from controlplane.events.models import OutboxItem
from controlplane.forecasting.models import ForecastRecord, SpikeRecord, SpikeWarningRecord
from controlplane.idempotency.models import IdempotencyRecord
from controlplane.processes.models import ProcessHeartbeat, TaskSlot
from controlplane.rollouts.models import Exploration, RolloutWindow
from controlplane.telemetry.models import ObservationRecord
from controlplane.webhooks.models import WebhookAttempt, WebhookDelivery


@dataclass(frozen=True, slots=True)
class _Rule:
    table: type[Base]
    kept: timedelta
    counted_from: InstrumentedAttribute[datetime] | InstrumentedAttribute[datetime | None]


_RULES = (
    _Rule(ObservationRecord, timedelta(days=14), ObservationRecord.window_end),
    _Rule(ForecastRecord, timedelta(days=2), ForecastRecord.made_at),
    _Rule(SpikeWarningRecord, timedelta(days=90), SpikeWarningRecord.at),
    _Rule(SpikeRecord, timedelta(days=90), SpikeRecord.onset_at),
    _Rule(RolloutWindow, timedelta(days=30), RolloutWindow.window_end),
    _Rule(Exploration, timedelta(days=90), Exploration.ended_at),
    _Rule(OutboxItem, timedelta(days=1), OutboxItem.done_at),
    _Rule(OutboxItem, timedelta(days=7), OutboxItem.dead_at),
    _Rule(WebhookAttempt, timedelta(days=30), WebhookAttempt.at),
    _Rule(WebhookDelivery, timedelta(days=30), WebhookDelivery.ended_at),
    _Rule(Alert, timedelta(days=90), Alert.resolved_at),
    # A level that was not served for so long counts next to nothing by then.
    _Rule(PerformanceModelRecord, timedelta(days=30), PerformanceModelRecord.updated_at),
    _Rule(TaskSlot, timedelta(days=1), TaskSlot.taken_at),
    _Rule(ProcessHeartbeat, timedelta(days=1), ProcessHeartbeat.at),
    _Rule(IdempotencyRecord, timedelta(0), IdempotencyRecord.expires_at),
    _Rule(WebSession, timedelta(days=1), WebSession.expires_at),
    _Rule(Invitation, timedelta(days=30), Invitation.expires_at),
)


def prune(session: Session, now: datetime) -> dict[str, int]:
    """Deletes what is past its time; returns the number of rows per table that lost any. Absent times never count as old."""
    gone: dict[str, int] = {}
    for rule in _RULES:
        count = rows_matched(session.execute(delete(rule.table).where(rule.counted_from < now - rule.kept)))
        if count:
            gone[rule.table.__tablename__] = gone.get(rule.table.__tablename__, 0) + count
    return gone
