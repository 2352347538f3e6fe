"""Warnings and spikes in SQL: what stands of each pool, what a tick adds, and what people are told of it."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from controlplane.events import service as events
from controlplane.events.kinds import EventKind, Severity
from controlplane.forecasting.models import SpikeRecord, SpikeWarningRecord
from controlplane.forecasting.spikes.alarm import DAY, Raised, Spike, Verdict, due, settle, spikes_of
from controlplane.forecasting.spikes.assess import Assessment
from controlplane.forecasting.spikes.matching import FAR_S, NEAR_S
from controlplane.forecasting.spikes.telemetry import LIVE_S
from controlplane.forecasting.spikes.thresholds import Setting

ACTOR = "forecast"
Thresholds = Mapping[Setting, float | None]


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of a pool: warnings of the last day and those still open, onsets of spikes of late (value: whether over)."""

    raised: Sequence[Raised] = ()
    spikes: Mapping[datetime, bool] = field(default_factory=dict)


def standing(session: Session, now: datetime, pool_ids: Iterable[str] | None = None) -> dict[str, Standing]:
    """By pool; pools without warnings and spikes are left out. Two queries, whatever the number of pools."""
    warnings = select(SpikeWarningRecord).where(
        or_(SpikeWarningRecord.at > now - DAY, SpikeWarningRecord.ended_at.is_(None))
    )
    spikes = select(SpikeRecord).where(
        or_(SpikeRecord.onset_at > now - timedelta(seconds=2 * LIVE_S), SpikeRecord.ended_at.is_(None))
    )
    if pool_ids is not None:
        wanted = list(pool_ids)
        warnings = warnings.where(SpikeWarningRecord.pool_id.in_(wanted))
        spikes = spikes.where(SpikeRecord.pool_id.in_(wanted))
    raised: dict[str, list[Raised]] = defaultdict(list)
    for row in session.scalars(warnings.order_by(SpikeWarningRecord.at)):
        raised[row.pool_id].append(
            Raised(row.id, Setting(row.setting), row.at, Verdict(row.verdict), row.onset_at, row.ended_at is not None)
        )
    known: dict[str, dict[datetime, bool]] = defaultdict(dict)
    for spike in session.scalars(spikes):
        known[spike.pool_id][spike.onset_at] = spike.ended_at is not None
    return {pool_id: Standing(raised[pool_id], known[pool_id]) for pool_id in {*raised, *known}}


def keep(
    session: Session,
    pool_id: str,
    found: Assessment,
    measured: Sequence[bool],
    thresholds: Thresholds,
    stands: Standing,
    *,
    end: datetime,
    step_s: float,
) -> list[Setting]:
    """Writes what is new at the window that ends at `end`: spikes, what became of warnings, and warnings. Returns those raised.

    measured: [N] whether each window of the assessment's truth is known at all.
    """
    for spike in spikes_of(found.truth, end, step_s):
        _keep_spike(session, pool_id, spike, stands)
    for warning in stands.raised:
        if not warning.ended and (news := settle(warning, found.truth, measured, end, step_s)) is not None:
            row = session.get_one(SpikeWarningRecord, warning.id)
            row.verdict, row.onset_at = news.verdict.value, news.onset_at
            row.ended_at = end if news.ended else None
            if news.ended:
                _tell_end(session, row, end)
    raised = due(found.probability, found.blocked, thresholds, stands.raised, end)
    for setting in raised:
        threshold = thresholds[setting]
        assert threshold is not None, "a setting without a threshold raises nothing"
        session.add(
            SpikeWarningRecord(
                pool_id=pool_id, setting=setting.value, at=end, probability=found.probability, threshold=threshold,
                model=found.model, lead_s=found.lead_s, load_ratio=found.load_ratio, explanation=found.explanation(),
                verdict=Verdict.OPEN.value, onset_at=None, ended_at=None,
            )
        )  # fmt: skip
    if raised:
        session.flush()
        _tell_begin(session, pool_id, found, raised, end)
    return raised


def _keep_spike(session: Session, pool_id: str, spike: Spike, stands: Standing) -> None:
    over = stands.spikes.get(spike.onset_at)
    if over is None:
        # Gaps that are filled later move an onset; a spike is one while another one lasts.
        if any(not ended for ended in stands.spikes.values()) and spike.until is None:
            return
        leads = {setting: _lead_s(stands.raised, setting, spike.onset_at) for setting in Setting}
        session.add(
            SpikeRecord(
                pool_id=pool_id, onset_at=spike.onset_at, ended_at=spike.until,
                watch_lead_s=leads[Setting.WATCH], page_lead_s=leads[Setting.PAGE],
            )
        )  # fmt: skip
        session.flush()
    elif not over and spike.until is not None:
        session.execute(
            update(SpikeRecord)
            .where(
                SpikeRecord.pool_id == pool_id, SpikeRecord.onset_at <= spike.onset_at, SpikeRecord.ended_at.is_(None)
            )
            .values(ended_at=spike.until)
        )


def _lead_s(raised: Sequence[Raised], setting: Setting, onset_at: datetime) -> float | None:
    ahead = [(onset_at - each.at).total_seconds() for each in raised if each.setting is setting]
    return max((lead_s for lead_s in ahead if NEAR_S <= lead_s <= FAR_S), default=None)


def _tell_begin(session: Session, pool_id: str, found: Assessment, raised: Sequence[Setting], at: datetime) -> None:
    is_page = Setting.PAGE in raised
    setting = Setting.PAGE if is_page else Setting.WATCH
    minutes = found.lead_s / 60
    events.record(
        session,
        kind=EventKind.FORECAST_SPIKE_PREDICTED,
        severity=Severity.ERROR if is_page else Severity.WARNING,
        message=(
            f"A latency spike is likely within 10 min, expected in about {minutes:.0f} min "
            f"(probability {found.probability:.2f}, {setting.value}): {found.explanation()}."
        ),
        at=at,
        actor=ACTOR,
        pool_id=pool_id,
        data={
            "setting": setting.value,
            "probability": round(found.probability, 4),
            "lead_s": round(found.lead_s, 1),
            "load_ratio": round(found.load_ratio, 4),
            "model": found.model,
            "explanation": found.explanation(),
        },
    )


_ENDS = {
    Verdict.RIGHT: "The spike that was foreseen is over.",
    Verdict.LATE: "The spike that was foreseen at the last moment is over.",
    Verdict.NEUTRAL: "No spike came, only a minor breach.",
    Verdict.FALSE: "No spike came within 10 min: a false alarm.",
    Verdict.UNKNOWN: "Nobody knows whether the spike came: the minutes after the warning were not measured.",
}


def _tell_end(session: Session, row: SpikeWarningRecord, at: datetime) -> None:
    """One event however many settings warned of it: that of the last warning to end."""
    others = select(SpikeWarningRecord.id).where(
        SpikeWarningRecord.pool_id == row.pool_id,
        SpikeWarningRecord.ended_at.is_(None),
        SpikeWarningRecord.id != row.id,
    )
    session.flush()
    if session.scalars(others.limit(1)).first() is not None:
        return
    lead_s = None if row.onset_at is None else (row.onset_at - row.at).total_seconds()
    events.record(
        session,
        kind=EventKind.FORECAST_SPIKE_CLEARED,
        severity=Severity.INFO,
        message=_ENDS[Verdict(row.verdict)],
        at=at,
        actor=ACTOR,
        pool_id=row.pool_id,
        data={"verdict": row.verdict, "setting": row.setting, "warned_at": row.at.isoformat(), "lead_s": lead_s},
    )
