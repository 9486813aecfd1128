"""A schedule as cron writes it, "0 3 * * *", and the same as systemd's calendar events (systemd.time(7)). UTC.

The five fields are those of crontab(5): minute, hour, day of the month, month, day of the week.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_LONGEST_MONTH: Final = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


class _Field(NamedTuple):
    """What a field counts. names: what may stand for the numbers from `low` on."""

    what: str
    low: int
    high: int
    names: tuple[str, ...] = ()


_FIELDS: Final = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of the month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    # Sunday is 0, and 7 too.
    _Field("day of the week", 0, 7, _DAYS),
)


class Schedule(NamedTuple):
    """When something runs: the numbers that each field takes. weekdays: 0 is Sunday.

    any_day, any_weekday: the field begins with "*". When neither does, cron runs on days that fit either of them.
    """

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...]
    months: tuple[int, ...]
    weekdays: tuple[int, ...]
    any_day: bool
    any_weekday: bool

    def calendar(self) -> tuple[str, ...]:
        """The events for a timer's OnCalendar=: one, or two where days and weekdays stand beside each other."""
        if self.any_day or self.any_weekday:
            return (self._event(self.weekdays, self.days),)
        # A day that fits both runs once: a timer that is due twice at the same moment elapses once.
        return (self._event(tuple(range(7)), self.days), self._event(self.weekdays, tuple(range(1, 32))))

    def _event(self, weekdays: tuple[int, ...], days: tuple[int, ...]) -> str:
        names = "" if len(weekdays) == 7 else ",".join(_DAYS[day].capitalize() for day in weekdays) + " "
        date = f"*-{_listed(self.months, 12)}-{_listed(days, 31)}"
        return f"{names}{date} {_listed(self.hours, 24)}:{_listed(self.minutes, 60)}:00 UTC"


def _listed(numbers: tuple[int, ...], count: int) -> str:
    return "*" if len(numbers) == count else ",".join(f"{number:02}" for number in numbers)


def parse(text: str) -> Schedule:
    """Raises ValueError, whose sentence names the field and ends in "; " and the cure."""
    words = text.split()
    if len(words) != len(_FIELDS):
        raise ValueError(
            f'"{text}" is not a schedule; five fields as in cron, minute, hour, day, month, weekday: "0 3 * * *"'
        )
    found = [_numbers(word, field) for word, field in zip(words, _FIELDS, strict=True)]
    minutes, hours, days, months, weekdays = found
    schedule = Schedule(
        minutes,
        hours,
        days,
        months,
        tuple(sorted({day % 7 for day in weekdays})),
        any_day=words[2].startswith("*"),
        any_weekday=words[4].startswith("*"),
    )
    by_weekday = not (schedule.any_day or schedule.any_weekday)
    if not by_weekday and min(days) > max(_LONGEST_MONTH[month - 1] for month in months):
        raise ValueError(f'"{text}" never comes; no such month has a day {min(days)}')
    return schedule


def _numbers(word: str, field: _Field) -> tuple[int, ...]:
    numbers: set[int] = set()
    for part in word.split(","):
        found = re.fullmatch(r"(\*|\w+)(?:-(\w+))?(?:/(\d{1,3}))?", part, re.ASCII)
        if found is None or (found[1] == "*" and found[2]):
            raise _wrong(part, field)
        step = int(found[3] or 1)
        if step == 0:
            raise _wrong(part, field)
        if found[1] == "*":
            # Of the two Sundays the first.
            low, high = field.low, 6 if field.names == _DAYS else field.high
        else:
            low = _number(found[1], part, field)
            # "5/15" is from 5 on, to the end; "5" alone is 5.
            high = _number(found[2], part, field) if found[2] else field.high if found[3] else low
        if low > high:
            raise _wrong(part, field)
        numbers.update(range(low, high + 1, step))
    return tuple(sorted(numbers))


def _number(text: str, part: str, field: _Field) -> int:
    if text.lower() in field.names:
        return field.names.index(text.lower()) + field.low
    if not text.isdecimal() or not field.low <= int(text) <= field.high:
        raise _wrong(part, field)
    return int(text)


def _wrong(part: str, field: _Field) -> ValueError:
    return ValueError(
        f'"{part}" is no {field.what}; numbers from {field.low} to {field.high}, "*", "1,2", "1-5" or "*/2"'
    )
