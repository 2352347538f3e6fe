"""When a delivery is tried again, and what an answer means for it and for its endpoint. Pure."""

import math
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum

# Standard Webhooks 1.0, "Deliverability and reliability": the pauses before each attempt, the first at once.
PAUSES_S = (0, 5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
MAX_ATTEMPTS = len(PAUSES_S)
JITTER = 0.2  # of the pause, on top: never earlier than the schedule says
MAX_RETRY_AFTER_S = 86_400.0
# A receiver that fails is left alone for a while by all deliveries, not only by the one that met it.
FIRST_HOLD_S, MAX_HOLD_S = 5.0, 300.0


class Verdict(StrEnum):
    DELIVERED = "delivered"
    RETRY = "retry"
    GONE = "gone"  # 410: the receiver wants nothing more, ever
    GIVEN_UP = "given_up"  # the last attempt of the schedule failed


@dataclass(frozen=True, slots=True)
class Outcome:
    """next_at: of the next attempt, for RETRY only."""

    verdict: Verdict
    next_at: datetime | None = None


def judge(
    status: int | None, attempt: int, now: datetime, *, retry_after: str | None = None, rng: random.Random | None = None
) -> Outcome:
    """What follows from an attempt, the `attempt`th from 1. status: None when no answer came. retry_after: as the header says."""
    if status is not None and 200 <= status < 300:
        return Outcome(Verdict.DELIVERED)
    if status == 410:
        return Outcome(Verdict.GONE)
    if attempt >= MAX_ATTEMPTS:
        return Outcome(Verdict.GIVEN_UP)
    pause_s = PAUSES_S[attempt] * (1 + JITTER * (rng or random).random())
    asked_s = retry_after_s(retry_after, now)
    return Outcome(Verdict.RETRY, now + timedelta(seconds=max(pause_s, asked_s)))


def retry_after_s(header: str | None, now: datetime) -> float:
    """Seconds that a `Retry-After` asks for (RFC 9110, 10.2.3: a number or a date), at most a day; 0 for none or nonsense."""
    if not header:
        return 0.0
    text = header.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), MAX_RETRY_AFTER_S)
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    when = when.replace(tzinfo=UTC) if when.tzinfo is None else when
    return min(max(0.0, (when - now).total_seconds()), MAX_RETRY_AFTER_S)


def hold_s(failures_in_a_row: int) -> float:
    """How long an endpoint is left alone after so many failures without a success between them."""
    return 0.0 if failures_in_a_row < 1 else min(FIRST_HOLD_S * math.pow(2, min(failures_in_a_row - 1, 10)), MAX_HOLD_S)
