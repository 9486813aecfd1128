"""The known name nearest to a mistyped one."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The one of `known` that `name` was most probably meant to be, or None when nothing is close."""
    from difflib import get_close_matches  # noqa: PLC0415  # few runs have a mistake to tell of

    by_folded = {_folded(each): each for each in known}
    found = get_close_matches(_folded(name), by_folded, n=1, cutoff=0.6)
    return by_folded[found[0]] if found else None


def _folded(name: str) -> str:
    return name.casefold().replace("-", "_")
