"""Sizes and durations as people write them: "400MB", "20GB", "30s", "2m".

Sizes count in powers of two (1 MB = 2**20 bytes), because both places where they end up do: Docker's memory
limit ("400m") and Compute Engine's disks and machine types, whose "GB" is 2**30 bytes.
"""

from __future__ import annotations

import re

KB, MB, GB, TB = 2**10, 2**20, 2**30, 2**40
_SIZE_UNITS = {"TB": TB, "GB": GB, "MB": MB, "KB": KB}
_DURATION_UNITS = {"h": 3600, "m": 60, "s": 1}

_SIZE = re.compile(r"([0-9]{1,9}) ?([KMGT])i?B", re.ASCII | re.IGNORECASE)
_DURATION = re.compile(r"(?:([0-9]{1,6})h)?(?:([0-9]{1,6})m)?(?:([0-9]{1,6})s)?", re.ASCII)


def parse_size(text: str) -> int:
    """Bytes. Raises ValueError with a sentence that says how a size is written."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ValueError(
            'a size is a whole number with its unit, KB, MB, GB or TB (powers of two), for example "400MB"'
        )
    return int(found[1]) * _SIZE_UNITS[found[2].upper() + "B"]


def parse_duration(text: str) -> int:
    """Seconds. Raises ValueError with a sentence that says how a duration is written."""
    stripped = text.strip()
    found = _DURATION.fullmatch(stripped)
    if not stripped or found is None:
        raise ValueError('a duration is a whole number with its unit, s, m or h, for example "30s" or "2m"')
    return sum(
        int(count) * size
        for count, size in zip(found.groups(), _DURATION_UNITS.values(), strict=True)
        if count
    )


def show_size(size: int) -> str:
    """The shortest exact form that `parse_size` reads back; sizes are whole KB."""
    for unit, factor in _SIZE_UNITS.items():
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return f"{size // KB}KB"


def show_duration(seconds: int) -> str:
    """The form that `parse_duration` reads back: whole minutes and hours are shortened."""
    for unit, factor in _DURATION_UNITS.items():
        if seconds and seconds % factor == 0:
            return f"{seconds // factor}{unit}"
    return f"{seconds}s"
