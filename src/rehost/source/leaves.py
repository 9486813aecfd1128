"""A platform's file as a tree whose every leaf is accounted for: what no reader took is named at the end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from rehost.source.report import Ledger
from rehost.source.yaml_text import Mapped, Text

Path: TypeAlias = "tuple[str | int, ...]"
UNKNOWN = ("rehost does not know this key", "see whether the app needs it")


def plain(value: object) -> Text:
    """What JSON or TOML hold, as `yaml_text` would have read it."""
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def leaves(value: Text, path: Path = ()) -> Iterator[Path]:
    """The way to each leaf; an empty list or mapping is one."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    elif isinstance(value, list) and value:
        for number, inner in enumerate(value):
            yield from leaves(inner, (*path, number))
    elif path:
        yield path


class Tree:
    """A document and what became of its parts. A part that is told of stands for all that is in it."""

    def __init__(self, document: Mapped, ledger: Ledger) -> None:
        self.document = document
        self.ledger = ledger
        self._told: set[Path] = set()

    def at(self, *path: str | int) -> Text | None:
        """What stands there; None for nothing."""
        found: Text | None = self.document
        for key in path:
            if isinstance(found, dict) and isinstance(key, str):
                found = found.get(key)
            elif isinstance(found, list) and isinstance(key, int) and key < len(found):
                found = found[key]
            else:
                return None
        return found

    def text(self, *path: str | int) -> str:
        """The text that stands there; "" for nothing, or for what is no text."""
        found = self.at(*path)
        return found.strip() if isinstance(found, str) else ""

    def table(self, *path: str | int) -> Mapped:
        found = self.at(*path)
        return found if isinstance(found, dict) else {}

    def items(self, *path: str | int) -> list[tuple[Path, Text]]:
        """The parts of a list with their ways; one that stands alone counts as a list of one."""
        found = self.at(*path)
        if isinstance(found, list):
            return [((*path, number), each) for number, each in enumerate(found)]
        return [] if found in (None, "", {}) else [(path, found)]

    def carry(self, path: Path, to: str) -> None:
        if self._new(path):
            self.ledger.carry(shown(path), to)

    def change(self, path: Path, how: str) -> None:
        if self._new(path):
            self.ledger.change(shown(path), how)

    def leave(self, path: Path, why: str, todo: str = "") -> None:
        if self._new(path):
            self.ledger.leave(shown(path), why, todo)

    def close(self) -> None:
        """Names what nobody took."""
        for leaf in leaves(self.document):
            if not any(leaf[:length] in self._told for length in range(1, len(leaf) + 1)):
                self.leave(leaf, *UNKNOWN)

    def _new(self, path: Path) -> bool:
        """Whether there is something there that is not told of yet."""
        found = self.at(*path) is not None and path not in self._told
        self._told.add(path)
        return found


def shown(path: Path) -> str:
    return ".".join(map(str, path))
