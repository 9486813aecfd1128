from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rehost.project.nearest import nearest
from rehost.project.sizes import GB, KB, MB, parse_duration, parse_size, show_duration, show_size


@pytest.mark.parametrize(
    ("text", "size"),
    [("400MB", 400 * MB), ("1GB", GB), ("1 gb", GB), ("512KB", 512 * KB), ("1GiB", GB), (" 2TB ", 2048 * GB)],
)
def test_sizes_count_in_powers_of_two(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "400", "MB", "1.5GB", "-1MB", "400 m", "400MBs", "\u0664MB"])
def test_what_is_not_a_size_says_how_one_is_written(text: str) -> None:
    with pytest.raises(ValueError, match="for example"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("2m", 120), ("1h", 3600), ("1m30s", 90), ("1h1m1s", 3661), ("0s", 0)]
)
def test_durations_are_seconds(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", " ", "30", "s", "30 s", "1.5s", "30s1m", "500ms", "-1s"])
def test_what_is_not_a_duration_says_how_one_is_written(text: str) -> None:
    with pytest.raises(ValueError, match="for example"):
        parse_duration(text)


@settings(deadline=None)
@given(st.integers(0, 10**8))
def test_what_is_shown_reads_back(number: int) -> None:
    assert parse_size(show_size(number * KB)) == number * KB
    assert parse_duration(show_duration(number % 10**6)) == number % 10**6


def test_nearest_forgives_case_hyphens_and_a_letter() -> None:
    known = ["stop_grace", "memory", "health"]
    assert nearest("stop-grace", known) == "stop_grace"
    assert nearest("Memmory", known) == "memory"
    assert nearest("zebra", known) is None
