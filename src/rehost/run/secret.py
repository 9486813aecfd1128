"""Secrets as a type, and the scrubbing of text that came from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from typing import final

MASK = "***"
# Shorter values ("true", "8080", "info") stand in ordinary text all the time; masking them would
# make logs unreadable without hiding anything.
SHORTEST_SCRUBBED = 8


@final
class Secret:
    """A value that prints as ``***``. `reveal` is the only way to the text, so every use can be searched for."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The text itself, for a file or request body that root alone can read."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    def __str__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError(
            "a Secret is never pickled or copied to disk; write it with reveal() where it belongs"
        )


# Values of variables that are no secret in any app; masked, they make Dockerfiles and logs hard to read.
ORDINARY = frozenset({"production", "development"})


class Scrubber:
    """Replaces known secret values in text that programs of the user's wrote (build and container logs).

    Values of several lines are also scrubbed line by line, because logs arrive by line.
    """

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        self._needles: tuple[str, ...] = ()
        self.add(secrets)

    def add(self, secrets: Iterable[Secret]) -> None:
        found = set(self._needles)
        for secret in secrets:
            value = secret.reveal()
            for part in (value, value.strip(), *value.splitlines()):
                if len(part) >= SHORTEST_SCRUBBED and part not in ORDINARY:
                    found.add(part)
        # Longest first: a value that contains another must vanish whole.
        self._needles = tuple(sorted(found, key=lambda needle: (-len(needle), needle)))

    def scrub(self, text: str) -> str:
        for needle in self._needles:
            if needle in text:
                text = text.replace(needle, MASK)
        return text
