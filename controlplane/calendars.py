"""Windows of time that come back: cron expressions in a zone of the IANA database. Pure.

Five fields as in crontab(5): minute, hour, day of month, month, day of week (0 or 7 is Sunday); lists, ranges, steps and English
names. As there, where both days are given, either one is enough.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

MAX_DURATION_S = 14 * 86_400
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


class CronInvalid(ValueError):
    """The text names the field and what it may be."""


@dataclass(frozen=True, slots=True)
class Cron:
    """Which local times match. `days` and `weekdays` are None where any will do; weekdays count from Sunday, 0."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int] | None
    months: frozenset[int]
    weekdays: frozenset[int] | None

    def matches_day(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        in_month = self.days is not None and day.day in self.days
        in_week = self.weekdays is not None and day.isoweekday() % 7 in self.weekdays
        if self.days is not None and self.weekdays is not None:
            return in_month or in_week
        return (self.days is None or in_month) and (self.weekdays is None or in_week)


@lru_cache(maxsize=512)
def parse_cron(text: str) -> Cron:
    """Raises CronInvalid."""
    fields = text.lower().split()
    if len(fields) != 5:
        raise CronInvalid(
            f"{text!r} has {len(fields)} fields, a cron expression five: minute hour day-of-month month day-of-week"
        )
    minute, hour, day, month, weekday = fields
    return Cron(
        minutes=tuple(sorted(_field("minute", minute, 0, 59))),
        hours=tuple(sorted(_field("hour", hour, 0, 23))),
        days=None if day == "*" else _field("day of month", day, 1, 31),
        months=_field("month", month, 1, 12, _MONTHS, 1),
        weekdays=None
        if weekday == "*"
        else frozenset(number % 7 for number in _field("day of week", weekday, 0, 7, _DAYS, 0)),
    )


def window_around(cron: Cron, zone: ZoneInfo, duration_s: float, now: datetime) -> tuple[datetime, datetime] | None:
    """The window [start, end) that holds `now`, the one that began last; None outside of all. `now` is aware, results are UTC.

    Lengths are real time. A start that the clocks skip in spring happens when they have been put forward; one that they pass
    twice in autumn happens the first time.
    """
    span = timedelta(seconds=duration_s)
    # A day more: at its border the local date may differ from that of the instant.
    day, last = now.astimezone(zone).date() + timedelta(days=1), (now - span).astimezone(zone).date()
    while day >= last:
        if cron.matches_day(day):
            for hour in reversed(cron.hours):
                for minute in reversed(cron.minutes):
                    start = datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone).astimezone(UTC)
                    if start <= now:
                        return (start, start + span) if now < start + span else None
        day -= timedelta(days=1)
    return None


def _field(name: str, text: str, low: int, high: int, names: tuple[str, ...] = (), base: int = 0) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        body, slash, step_text = part.partition("/")
        step = _number(name, step_text, 1, high) if slash else 1
        if body == "*":
            first, last = low, high
        else:
            left, dash, right = body.partition("-")
            first = _number(name, left, low, high, names, base)
            last = _number(name, right, low, high, names, base) if dash else (high if slash else first)
        if last < first:
            raise CronInvalid(f"{name}: the range {body!r} runs backwards; write it as two, separated by a comma")
        found.update(range(first, last + 1, step))
    return frozenset(found)


def _number(name: str, text: str, low: int, high: int, names: tuple[str, ...] = (), base: int = 0) -> int:
    if text in names:
        return names.index(text) + base
    if not (text.isascii() and text.isdigit()) or not low <= int(text) <= high:
        also = f" or one of {', '.join(names)}" if names else ""
        raise CronInvalid(f"{name}: {text!r} is no number from {low} to {high}{also}")
    return int(text)
