"""How right a pool's warnings have been, live, by the benchmark's own rules."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from statistics import median

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.forecasting.models import SpikeRecord, SpikeWarningRecord
from controlplane.forecasting.spikes.alarm import Verdict
from controlplane.forecasting.spikes.intervals import wilson
from controlplane.forecasting.spikes.thresholds import Setting

_RIGHT = (Verdict.RIGHT, Verdict.LATE)


@dataclass(frozen=True, slots=True)
class WarningQuality:
    """Of one setting. precision: right / (right + false), recall: spikes with a warning 60-600 s ahead / spikes; None without
    any. Intervals are Wilson's at 95 %. brier: mean squared miss of the probability stated, over judged warnings."""

    setting: Setting
    counts: dict[Verdict, int]
    spikes: int
    foreseen: int
    lead_s: float | None
    days: float
    brier: float | None

    @property
    def warnings(self) -> int:
        return sum(self.counts.values())

    @property
    def right(self) -> int:
        return sum(self.counts[verdict] for verdict in _RIGHT)

    @property
    def precision(self) -> float | None:
        judged = self.right + self.counts[Verdict.FALSE]
        return self.right / judged if judged else None

    @property
    def precision_interval(self) -> tuple[float, float] | None:
        return wilson(self.right, self.right + self.counts[Verdict.FALSE])

    @property
    def recall(self) -> float | None:
        return self.foreseen / self.spikes if self.spikes else None

    @property
    def recall_interval(self) -> tuple[float, float] | None:
        return wilson(self.foreseen, self.spikes)

    @property
    def false_per_day(self) -> float | None:
        return self.counts[Verdict.FALSE] / self.days if self.days else None


def warning_quality(
    session: Session, since: datetime, until: datetime, pool_ids: Iterable[str] | None = None
) -> dict[str, list[WarningQuality]]:
    """By pool, of warnings raised and spikes begun in [since, until]; pools without either are left out."""
    warnings = select(
        SpikeWarningRecord.pool_id,
        SpikeWarningRecord.setting,
        SpikeWarningRecord.verdict,
        SpikeWarningRecord.probability,
    ).where(SpikeWarningRecord.at >= since, SpikeWarningRecord.at <= until)
    spikes = select(SpikeRecord.pool_id, SpikeRecord.watch_lead_s, SpikeRecord.page_lead_s).where(
        SpikeRecord.onset_at >= since, SpikeRecord.onset_at <= until
    )
    if pool_ids is not None:
        wanted = list(pool_ids)
        warnings = warnings.where(SpikeWarningRecord.pool_id.in_(wanted))
        spikes = spikes.where(SpikeRecord.pool_id.in_(wanted))
    told = [(row[0], Setting(row[1]), Verdict(row[2]), float(row[3])) for row in session.execute(warnings)]
    came = [(row[0], {Setting.WATCH: row[1], Setting.PAGE: row[2]}) for row in session.execute(spikes)]
    days = (until - since).total_seconds() / 86400
    return {
        pool_id: [
            _of_setting(
                setting,
                [(verdict, p) for pool, its, verdict, p in told if pool == pool_id and its is setting],
                [leads[setting] for pool, leads in came if pool == pool_id],
                days,
            )
            for setting in Setting
        ]
        for pool_id in {pool for pool, *_ in told} | {pool for pool, _ in came}
    }


def _of_setting(
    setting: Setting, told: list[tuple[Verdict, float]], leads: list[float | None], days: float
) -> WarningQuality:
    counts = {verdict: sum(each is verdict for each, _ in told) for verdict in Verdict}
    foreseen = [lead_s for lead_s in leads if lead_s is not None]
    judged = [(p - (verdict in _RIGHT)) ** 2 for verdict, p in told if verdict in {*_RIGHT, Verdict.FALSE}]
    return WarningQuality(
        setting=setting,
        counts=counts,
        spikes=len(leads),
        foreseen=len(foreseen),
        lead_s=median(foreseen) if foreseen else None,
        days=days,
        brier=sum(judged) / len(judged) if judged else None,
    )
