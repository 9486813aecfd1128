"""What is wrong with a rehost.toml, said in sentences: each with its line, its key and the cure."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from rehost.project.nearest import nearest
from rehost.project.toml_lines import KeyPath, line_of
from rehost.run.errors import UsageError

Tables = Mapping[KeyPath, frozenset[str]]  # the keys that each table knows; () is the top of the file

# The keys that must stand there, each with a line that could.
_EXAMPLES = {
    "app": 'app = "content-api"',
    "machine": '[machine] with provider = "gce" and zone = "us-west1-a"',
    "machine.provider": 'provider = "gce" or "host"',
    "machine.zone": 'zone = "us-west1-a"',
    "machine.address": 'address = "203.0.113.10"',
    "processes.NAME.command": 'command = "python -m app.worker"',
    "services.NAME.image": 'image = "redis:7"',
    "jobs.NAME.command": 'command = "python -m app.report"',
    "jobs.NAME.schedule": 'schedule = "0 3 * * *"',
}


class Mistake(NamedTuple):
    """One mistake. line: from 1, None when it is about the file as a whole. key: dotted, as in "run.port"."""

    line: int | None
    key: str
    what: str
    cure: str

    def show(self, file: str) -> str:
        where = f"{file}:{self.line}" if self.line else file
        return f"{where}: {self.sentence}"

    @property
    def sentence(self) -> str:
        said = f"{self.key}: {self.what}" if self.key else self.what
        return f"{said}; {self.cure}" if self.cure else said


class ConfigError(UsageError):
    """rehost.toml has mistakes; all of them stand in `mistakes`, in the order of the file."""

    def __init__(self, file: str, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = tuple(sorted(mistakes, key=lambda one: (one.line or 0, one.key)))
        if len(self.mistakes) == 1:
            only = self.mistakes[0]
            super().__init__(
                f"{only.key}: {only.what}." if only.key else f"{only.what}.",
                cure=_sentence(only.cure),
                where=f"{file}:{only.line}" if only.line else file,
            )
        else:
            listed = "".join(f"\n  {one.show(file)}" for one in self.mistakes)
            super().__init__(f"{len(self.mistakes)} mistakes:{listed}", where=file)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('?') else '.'}" if text else ""


def of_syntax(error: tomllib.TOMLDecodeError, text: str) -> Mistake:
    """A text that is not TOML. The library says the place in its message only."""
    message = str(error)
    place = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", message)
    line = None
    if place is not None:
        message = message[: place.start()]
        line = int(place[1]) if place[1] else text.rstrip().count("\n") + 1
        if place[2]:
            message += f" at column {place[2]}"
    key = ""
    if line is not None:
        lines = text.split("\n")
        written = re.match(r"[ \t]*([A-Za-z0-9_.-]+)[ \t]*=", lines[line - 1]) if line <= len(lines) else None
        key = written[1] if written else ""
    return Mistake(line, key, f"not valid TOML: {message}", "strings stand in quotes, lists in [ ]")


class Fault(NamedTuple):
    """A mistake before its line is known."""

    path: KeyPath
    what: str
    cure: str

    def at(self, lines: dict[KeyPath, int]) -> Mistake:
        return Mistake(line_of(lines, self.path), _dotted(self.path), self.what, self.cure)


def missing(path: KeyPath) -> Fault:
    """A key that must stand there and does not."""
    named = f"{path[0]}.NAME.{path[-1]}"
    return Fault(path, "this key is missing", f"add it: {_EXAMPLES.get('.'.join(path)) or _EXAMPLES[named]}")


def wrong(path: KeyPath, sentence: str) -> Fault:
    """A value that its key does not take; the sentence ends in its cure, after ";"."""
    what, _, cure = sentence.partition("; ")
    return Fault(path, what, cure)


def unknown(path: KeyPath, here: Iterable[str], tables: Tables) -> Fault:
    """A key that its table does not know; `here` are those that it knows."""
    table, key = path[:-1], path[-1]
    for owner, keys in tables.items():
        if key not in keys:
            continue
        if owner[:1] == table[:1] == ("machine",):
            return Fault(path, f'this key is of provider "{owner[1]}"', "remove it, or change the provider")
        table_of = owner if "NAME" in owner else owner[:1]
        home = f"[{'.'.join(table_of)}]" if owner else "the top of the file"
        return Fault(path, "there is no such key here", f'"{key}" stands in {home}')
    meant = nearest(key, here)
    if meant is not None:
        return Fault(path, "there is no such key", f'did you mean "{meant}"?')
    return Fault(path, "there is no such key", f"known here: {', '.join(sorted(here))}")


def _dotted(path: KeyPath) -> str:
    shown = path[0]
    for part in path[1:]:
        shown += f"[{part}]" if part.isdecimal() else f".{part}"
    return shown
