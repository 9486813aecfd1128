"""Titles as parts of addresses."""

from __future__ import annotations

import unicodedata

LONGEST_SLUG = 80


def slug_of(title: str) -> str:
    """A title as one part of an address: lower case, letters and digits of any script, dashes between words.

    At most 80 characters; empty when the title has no letter and no digit.
    """
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", title).casefold())
    # Marks stay: without them the words of many scripts would fall apart.
    kept = (char if unicodedata.category(char)[0] in "LNM" else " " for char in text)
    return "-".join("".join(kept).split())[:LONGEST_SLUG].rstrip("-")
