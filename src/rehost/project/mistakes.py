"""What is wrong with a rehost.toml, said in sentences: each with its line, its key and the cure."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from rehost.project.nearest import nearest
from rehost.project.toml_lines import KeyPath, key_lines, line_of
from rehost.run.errors import UsageError

Tables = Mapping[KeyPath, frozenset[str]]  # the keys that each table knows; () is the top of the file

_TYPES = {
    "string_type": "a string in quotes",
    "int_type": "a whole number without quotes",
    "tuple_type": 'a list: ["...", "..."]',
    "dict_type": "a table of names and values",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "bool_type": "true or false",
}
# The keys that must stand there, each with a line that could.
_EXAMPLES = {
    "app": 'app = "content-api"',
    "machine": '[machine] with provider = "gce" and zone = "us-west1-a"',
    "machine.provider": 'provider = "gce" or "host"',
    "machine.zone": 'zone = "us-west1-a"',
    "machine.address": 'address = "203.0.113.10"',
}


@dataclass(frozen=True, slots=True)
class Mistake:
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


def of_validation(error: ValidationError, text: str, tables: Tables) -> list[Mistake]:
    """A text that is TOML and does not fit the schema."""
    lines = key_lines(text)
    return [_of_detail(detail, lines, tables) for detail in error.errors(include_url=False)]


def _of_detail(detail: ErrorDetails, lines: dict[KeyPath, int], tables: Tables) -> Mistake:
    table: KeyPath = tuple(str(part) for part in detail["loc"][:-1])
    path: KeyPath = tuple(str(part) for part in detail["loc"])
    if len(path) > 2 and path[0] == "machine":
        path = (path[0], *path[2:])  # pydantic names the provider there; in the file there is no such level
    kind = detail["type"]
    if kind.startswith("union_tag"):
        path = (*path, "provider")
    line = line_of(lines, path)
    if kind in ("missing", "union_tag_not_found"):
        key = ".".join(path)
        return Mistake(line, key, "this key is missing", f"add it: {_EXAMPLES[key]}")
    if kind == "extra_forbidden":
        return Mistake(line, ".".join(path), *_unknown(table, path[-1], tables))
    return Mistake(line, _dotted(path), *_wrong_value(detail))


def _dotted(path: KeyPath) -> str:
    shown = path[0]
    for part in path[1:]:
        if part == "[key]":  # how pydantic says that the name itself is wrong
            continue
        shown += f"[{part}]" if part.isdecimal() else f".{part}"
    return shown


def _unknown(table: KeyPath, key: str, tables: Tables) -> tuple[str, str]:
    here = tables[table]
    for owner, keys in tables.items():
        if key not in keys:
            continue
        if owner[:1] == table[:1] == ("machine",):
            return f'this key is of provider "{owner[1]}"', "remove it, or change the provider"
        home = f"[{owner[0]}]" if owner else "the top of the file"
        return "there is no such key here", f'"{key}" stands in {home}'
    meant = nearest(key, here)
    if meant is not None:
        return "there is no such key", f'did you mean "{meant}"?'
    return "there is no such key", f"known here: {', '.join(sorted(here))}"


def _wrong_value(detail: ErrorDetails) -> tuple[str, str]:
    kind = detail["type"]
    context = detail.get("ctx", {})
    given = _show(detail["input"])
    if kind == "value_error":  # our own validators: a sentence that ends in its cure, after ";"
        what, _, cure = str(context["error"]).partition("; ")
        return what, cure
    if kind in _TYPES:
        return f"{given} is not what stands here", f"write {_TYPES[kind]}"
    if kind == "literal_error":
        return f"{given} is not known", f"one of {context['expected']}"
    if kind == "union_tag_invalid":
        return f'"{context["tag"]}" is not known', f"one of {context['expected_tags']}"
    # The bounds of a number: "Input should be less than or equal to 65535".
    return f"{given} is not allowed", detail["msg"].replace("Input should", "it must")


def _show(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    return str(value)
