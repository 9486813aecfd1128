"""Moments of a cron expression: minute, hour, day of month, month, day of week, as in crontab(5)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo

_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
# Days to look ahead: 29 February is at most eight years away.
_HORIZON = 8 * 366 + 1


@dataclass(frozen=True)
class Cron:
    """weekdays: 0 is Sunday. either: both days are restricted, and one of them is enough."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either: bool = False

    @classmethod
    def parse(cls, text: str) -> Cron:
        """Raises ValueError for what is no such expression."""
        fields = text.split()
        if len(fields) != 5:
            raise ValueError("five fields are needed")
        weekdays = _field(fields[4], 0, 7, _WEEKDAYS, 0)
        return cls(
            _field(fields[0], 0, 59),
            _field(fields[1], 0, 23),
            _field(fields[2], 1, 31),
            _field(fields[3], 1, 12, _MONTHS, 1),
            frozenset(day % 7 for day in weekdays),
            either=not fields[2].startswith("*") and not fields[4].startswith("*"),
        )

    def on(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        in_month, in_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return in_month or in_week if self.either else in_month and in_week

    def after(self, moment: datetime, zone: tzinfo = UTC) -> datetime | None:
        """The first moment later than `moment`, in UTC; None when there is none within eight years.

        A local time that the clocks skip comes an hour later, one that they show twice comes once, the first time.
        """
        start = moment.astimezone(zone).date()
        for ahead in range(_HORIZON):
            day = start + timedelta(days=ahead)
            if self.on(day):
                found = [at for at in self._moments(day, zone) if at > moment]
                if found:
                    return min(found)
        return None

    def _moments(self, day: date, zone: tzinfo) -> list[datetime]:
        times = [time(hour, minute) for hour in self.hours for minute in self.minutes]
        return [datetime.combine(day, at, zone).astimezone(UTC) for at in times]


def _field(text: str, low: int, high: int, names: tuple[str, ...] = (), first: int = 0) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        span, slash, step = part.partition("/")
        if slash and not (step.isascii() and step.isdigit() and int(step)):
            raise ValueError(f"{part!r} has no such step")
        if span == "*":
            begin, end = low, high
        else:
            left, dash, right = span.partition("-")
            begin = _number(left, names, first)
            end = _number(right, names, first) if dash else high if slash else begin
        if not low <= begin <= end <= high:
            raise ValueError(f"{part!r} is not within {low}-{high}")
        found.update(range(begin, end + 1, int(step or 1)))
    return frozenset(found)


def _number(text: str, names: tuple[str, ...], first: int) -> int:
    if text.upper() in names:
        return names.index(text.upper()) + first
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{text!r} is not a number")
    return int(text)
