"""[moves] of rehost.toml: where the content of a volume or a service is today. A key names it, the value says where."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Final, NamedTuple, TypeAlias

from rehost.project import mistakes
from rehost.project.nearest import nearest
from rehost.project.values import VARIABLE, string

# USER@HOST:/PATH or HOST:/PATH; an address of IPv6 stands in brackets.
_DIRECTORY: Final = re.compile(
    r"(?:(?P<user>[A-Za-z0-9_][A-Za-z0-9_.-]*)@)?(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9][A-Za-z0-9_.-]*))"
    r":(?P<path>/[^\0\n]*)",
    re.ASCII,
)
_VOLUME: Final = 'for a volume write the directory, as in "srv-abc@ssh.oregon.render.com:/var/data"'
_SERVICE: Final = "for a service write the name of the variable with the address of its database"


class Directory(NamedTuple):
    """A directory that ssh reaches. host: also a Host of the ssh configuration, which says the user when it is ""."""

    user: str
    host: str
    path: str

    def __str__(self) -> str:
        return f"{self.user}@{self.host}:{self.path}" if self.user else f"{self.host}:{self.path}"


class Variable(NamedTuple):
    """A variable whose value is the address of a database."""

    name: str

    def __str__(self) -> str:
        return self.name


Origin: TypeAlias = Directory | Variable


def origin(value: object) -> Origin:
    """Raises ValueError, which never shows the value: what stands there by mistake may be a secret."""
    text = string(value)
    if "://" in text:
        raise ValueError("secrets never stand here; put the address into a variable, and write its name")
    if re.fullmatch(VARIABLE, text, re.ASCII):
        return Variable(text)
    found = _DIRECTORY.fullmatch(text)
    if found is None:
        raise ValueError(f"neither a directory nor the name of a variable; {_VOLUME}, {_SERVICE}")
    return Directory(found["user"] or "", found["six"] or found["host"], found["path"].rstrip("/") or "/")


def read(data: object, faults: list[mistakes.Fault]) -> dict[str, Origin]:
    """The moves by the name of their volume or service. What is wrong with a value goes to `faults`."""
    if not isinstance(data, Mapping):
        faults.append(mistakes.wrong(("moves",), f"this is no table; {_VOLUME}, {_SERVICE}"))
        return {}
    found: dict[str, Origin] = {}
    for name, value in data.items():
        try:
            found[name] = origin(value)
        except ValueError as wrong:
            faults.append(mistakes.wrong(("moves", name), str(wrong)))
    return found


def misplaced(
    found: Mapping[str, Origin], volumes: Collection[str], services: Collection[str]
) -> Iterator[mistakes.Fault]:
    """Moves whose key is no volume for a directory, or no service for a variable."""
    for name, where in found.items():
        directory = isinstance(where, Directory)
        if name in (volumes if directory else services):
            continue
        if name in services:
            said = f"this is a directory, and {name} is a service; {_SERVICE}"
        elif name in volumes:
            said = f"this is no directory, and {name} is a volume; {_VOLUME}"
        else:
            near = nearest(name, {*volumes, *services})
            cure = (
                f'did you mean "{near}"?'
                if near
                else "a key is a volume of [run] or of a service, or a service"
            )
            said = f"there is no volume and no service {name}; {cure}"
        yield mistakes.wrong(("moves", name), said)
