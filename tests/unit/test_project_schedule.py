"""Schedules: what cron means, and that systemd is told the same."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rehost.project.schedule import parse

NAMES = {"sun": 0, "mon": 1, "tue": 2, "wed": 3, "thu": 4, "fri": 5, "sat": 6}


@pytest.mark.parametrize(
    ("cron", "events"),
    [
        ("0 3 * * *", ["*-*-* 03:00:00 UTC"]),
        ("*/15 * * * *", ["*-*-* *:00,15,30,45:00 UTC"]),
        ("5/20 1-3 * feb mon-wed", ["Mon,Tue,Wed *-02-* 01,02,03:05,25,45:00 UTC"]),
        ("0 0 * * 7", ["Sun *-*-* 00:00:00 UTC"]),
        ("0 0 * * 0-6", ["*-*-* 00:00:00 UTC"]),
        ("0 0 * * 5-7", ["Sun,Fri,Sat *-*-* 00:00:00 UTC"]),
        # Either of them, as crontab(5) has it, unless one begins with "*".
        ("0 0 1 * 1", ["*-*-01 00:00:00 UTC", "Mon *-*-* 00:00:00 UTC"]),
        ("0 0 */10 * 1", ["Mon *-*-01,11,21,31 00:00:00 UTC"]),
        ("0 0 31 2 1", ["*-02-31 00:00:00 UTC", "Mon *-02-* 00:00:00 UTC"]),
    ],
)
def test_events(cron: str, events: list[str]) -> None:
    assert list(parse(cron).calendar()) == events


@pytest.mark.parametrize(
    ("cron", "named"),
    [
        ("0 3 * *", "five fields"),
        ("@daily", "five fields"),
        ("60 3 * * *", '"60" is no minute'),
        ("0 24 * * *", '"24" is no hour'),
        ("0 3 0 * *", '"0" is no day of the month'),
        ("0 3 * 13 *", '"13" is no month'),
        ("0 3 * * 8", '"8" is no day of the week'),
        ("0 3 * * fry", '"fry" is no day of the week'),
        ("*/0 3 * * *", '"*/0" is no minute'),
        ("9-5 3 * * *", '"9-5" is no minute'),
        ("*-5 3 * * *", '"*-5" is no minute'),
        ("1,,2 3 * * *", '"" is no minute'),
        ("0 3 L * *", '"L" is no day of the month'),
        ("0 3 30 2 *", "never comes"),
        ("0 3 31 4,6,9,11 *", "never comes"),
    ],
)
def test_mistakes_name_the_field_and_the_cure(cron: str, named: str) -> None:
    with pytest.raises(ValueError, match=re.escape(named)) as wrong:
        parse(cron)
    assert "; " in str(wrong.value)


# -- what cron does, in the words of crontab(5), and what systemd.time(7) makes of our events ---------------


def field(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    ranges = st.tuples(number, number).map(lambda two: f"{min(two)}-{max(two)}")
    whole = st.one_of(ranges, st.just("*"))
    part = st.one_of(
        number.map(str), whole, st.tuples(whole, st.integers(1, 9)).map(lambda p: f"{p[0]}/{p[1]}")
    )
    return st.lists(part, min_size=1, max_size=3).map(",".join)


def cron_numbers(text: str, low: int, high: int) -> set[int]:
    found: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        numbers = range(low, high + 1) if span == "*" else range(int(first), int(last or first) + 1)
        found |= {number for number in numbers if (number - numbers[0]) % int(step or 1) == 0}
    return found


def cron_runs(text: str, when: datetime) -> bool:
    minute, hour, day, month, weekday = text.split()
    days = when.day in cron_numbers(day, 1, 31)
    weekdays = when.isoweekday() % 7 in {number % 7 for number in cron_numbers(weekday, 0, 7)}
    both = days and weekdays if day.startswith("*") or weekday.startswith("*") else days or weekdays
    return (
        when.minute in cron_numbers(minute, 0, 59)
        and when.hour in cron_numbers(hour, 0, 23)
        and when.month in cron_numbers(month, 1, 12)
        and both
    )


def systemd_runs(event: str, when: datetime) -> bool:
    *names, date, clock, zone = event.split()
    assert zone == "UTC"
    _, month, day = date.split("-")
    hour, minute, second = clock.split(":")
    assert second == "00"
    places = ((month, when.month), (day, when.day), (hour, when.hour), (minute, when.minute))
    listed = all(text == "*" or number in map(int, text.split(",")) for text, number in places)
    wanted = {NAMES[name.lower()] for name in names[0].split(",")} if names else range(7)
    return listed and when.isoweekday() % 7 in wanted


@given(
    st.tuples(field(0, 59), field(0, 23), field(1, 31), field(1, 12), field(0, 7)).map(" ".join),
    st.integers(0, 4 * 366 * 24 * 60),
)
@example("0 0 13 * 5", 0)
@example("0 0 * * 7", 0)
def test_systemd_runs_when_cron_would(text: str, minutes: int) -> None:
    # A moment that fits all fields but the days is looked at too, so that days matter often.
    events = None
    try:
        events = parse(text).calendar()
    except ValueError as never:
        assert "never comes" in str(never)
        return
    begin = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
    minute, hour = (min(cron_numbers(text.split()[place], 0, top)) for place, top in ((0, 59), (1, 23)))
    for when in (
        begin,
        *(begin.replace(minute=minute, hour=hour) + timedelta(days=day) for day in range(40)),
    ):
        assert any(systemd_runs(event, when) for event in events) == cron_runs(text, when), when
