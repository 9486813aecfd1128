"""One place in the code that reads one variable."""

from __future__ import annotations

from typing import Literal, NamedTuple

# "demanded": without the variable the code stops. "read": it goes on with nothing in its place.
# "optional": it has a default, or asks first whether the variable is there.
Need = Literal["demanded", "read", "optional"]


class Use(NamedTuple):
    """file: relative to the sources' root. line: from 1. how: the reading as the code has it.

    others: further names of which any one will do. prefix: variables that begin so will do as well.
    """

    name: str
    file: str
    line: int
    need: Need
    how: str
    others: tuple[str, ...] = ()
    prefix: str = ""
