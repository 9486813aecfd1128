"""Cron expressions of schedules."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehost.lab.compute_cron import Cron

SEOUL, NEW_YORK = ZoneInfo("Asia/Seoul"), ZoneInfo("America/New_York")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


@pytest.mark.parametrize(
    ("expression", "after", "following"),
    [
        ("* * * * *", "2026-11-23T10:00:30Z", "2026-11-23T10:01:00Z"),
        ("0 8 * * *", "2026-11-23T08:00:00Z", "2026-11-24T08:00:00Z"),
        ("0 8 * * *", "2026-11-23T07:59:59Z", "2026-11-23T08:00:00Z"),
        ("*/15 9-17 * * MON-FRI", "2026-11-20T17:50:00Z", "2026-11-23T09:00:00Z"),
        ("5/20 * * * *", "2026-11-23T10:06:00Z", "2026-11-23T10:25:00Z"),
        ("30 23 31 * *", "2026-11-01T00:00:00Z", "2026-12-31T23:30:00Z"),
        ("0 0 29 2 *", "2026-11-23T00:00:00Z", "2028-02-29T00:00:00Z"),
        ("0 0 1 jan,Jul *", "2026-11-23T00:00:00Z", "2027-01-01T00:00:00Z"),
        ("0 0 * * 7", "2026-11-23T00:00:00Z", "2026-11-29T00:00:00Z"),  # 7 is Sunday, as 0 is
        # Both days restricted: either is enough, as crontab(5) has it.
        ("0 0 1 * WED", "2026-11-23T00:00:00Z", "2026-11-25T00:00:00Z"),
        ("0 0 1 * WED", "2026-11-25T00:00:00Z", "2026-12-01T00:00:00Z"),
        ("0 0 */2 * WED", "2026-11-23T00:00:00Z", "2026-11-25T00:00:00Z"),
    ],
)
def test_the_next_moment(expression: str, after: str, following: str) -> None:
    assert Cron.parse(expression).after(at(after)) == at(following)


def test_a_time_zone_counts() -> None:
    assert Cron.parse("0 8 * * *").after(at("2026-11-23T00:00:00Z"), SEOUL) == at("2026-11-23T23:00:00Z")
    assert Cron.parse("0 8 * * *").after(at("2026-07-01T00:00:00Z"), NEW_YORK) == at("2026-07-01T12:00:00Z")
    assert Cron.parse("0 8 * * *").after(at("2026-12-01T00:00:00Z"), NEW_YORK) == at("2026-12-01T13:00:00Z")


def test_an_hour_that_the_clocks_skip_comes_an_hour_later() -> None:
    # 8 March 2026: from 02:00 EST to 03:00 EDT.
    assert Cron.parse("30 2 * * *").after(at("2026-03-08T00:00:00-05:00"), NEW_YORK) == at(
        "2026-03-08T03:30:00-04:00"
    )


def test_an_hour_that_comes_twice_counts_once() -> None:
    # 1 November 2026: 01:30 EDT, and again 01:30 EST.
    cron = Cron.parse("30 1 * * *")
    first = cron.after(at("2026-11-01T00:00:00-04:00"), NEW_YORK)
    assert first == at("2026-11-01T01:30:00-04:00")
    assert cron.after(first, NEW_YORK) == at("2026-11-02T01:30:00-05:00")


def test_a_day_that_never_comes() -> None:
    assert Cron.parse("0 0 31 2 *").after(at("2026-11-23T00:00:00Z")) is None


@pytest.mark.parametrize(
    "wrong",
    ["", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "5-1 * * * *",
     "*/0 * * * *", "1.5 * * * *", "- * * * *", "1- * * * *", "@daily", "* * * FOO *", "² * * * *", "a-b * * * *"],
)  # fmt: skip
def test_wrong_expressions(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Cron.parse(wrong)


MINUTES = st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31)).map(
    lambda when: when.replace(tzinfo=UTC)
)


@given(st.integers(0, 59), st.integers(0, 23), MINUTES, st.sampled_from([ZoneInfo("UTC"), SEOUL, NEW_YORK]))
def test_a_daily_time_comes_within_26_hours_and_is_that_time(
    minute: int, hour: int, moment: datetime, zone: ZoneInfo
) -> None:
    found = Cron.parse(f"{minute} {hour} * * *").after(moment, zone)
    assert found is not None
    assert moment < found <= moment + timedelta(hours=26)
    local = found.astimezone(zone)
    assert local.minute == minute
    assert local.hour == hour or (zone is NEW_YORK and (local.month, hour, local.hour) == (3, 2, 3))


@given(st.text("0123456789*/-, JANmonXY", max_size=25))
def test_any_text_is_taken_or_refused(text: str) -> None:
    try:
        cron = Cron.parse(text)
    except ValueError:
        return
    found = cron.after(at("2026-11-23T00:00:00Z"))
    assert found is None or (found.minute in cron.minutes and found.hour in cron.hours)
