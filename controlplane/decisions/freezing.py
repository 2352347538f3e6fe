"""Why a pool may not change now: frozen by a person or an alert, for itself or with all others, or in a freeze window."""

from datetime import datetime
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session

from controlplane.calendars import parse_cron, window_around
from controlplane.decisions.policy import FreezeWindow, Policy
from controlplane.fleets import service as fleets
from controlplane.fleets.models import Pool


def frozen_reason(session: Session, pool: Pool, policy: Policy, now: datetime) -> str | None:
    """In words, with the end where it is known; None while the pool may change. Rollbacks never ask."""
    return fleets.frozen_by_hand(session, pool) or window_reason(policy, now)


def window_reason(policy: Policy, now: datetime) -> str | None:
    """The same for freeze windows alone; of several that overlap, the one that ends last."""
    running = [(end, each) for each in policy.freeze_windows if (end := _ends(each, now)) is not None]
    if not running:
        return None
    end, window = max(running, key=lambda found: found[0])
    return f"freeze window until {end:%Y-%m-%d %H:%M} UTC: {window.reason}"


def _ends(window: FreezeWindow, now: datetime) -> datetime | None:
    found = window_around(parse_cron(window.cron), ZoneInfo(window.timezone), window.duration_s, now)
    return None if found is None else found[1]
