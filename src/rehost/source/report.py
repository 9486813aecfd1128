"""What an import carried over: every field of the source lands in exactly one of three lists."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from rehost.run.events import Json
from rehost.run.secret import Secret
from rehost.source.native_caddy import Header, Route


class Carried(NamedTuple):
    """A field that means the same on the machine; `to` says where it stands now."""

    field: str
    to: str


class Differently(NamedTuple):
    """A field that was carried over and does not mean quite the same."""

    field: str
    how: str


class Left(NamedTuple):
    """A field that was not carried over. why and todo are sentences; todo is "" when nothing is to be done."""

    field: str
    why: str
    todo: str


class Changed(NamedTuple):
    """A field that the file and the source itself say differently. Values of variables never stand here."""

    field: str
    file: str
    there: str


@dataclass(frozen=True, slots=True)
class Settings:
    """What was found, as rehost.toml writes it. root, dockerfile and context are as the source gives them.

    runtime, build_command, start_command and publish are the source's own, for an app without a Dockerfile.
    created: the day on which it was made there (ISO 8601).
    render: the service's ID there. secret_files: by name, as the app finds them at /etc/secrets.
    routes, headers: of a static site. disk_gb: the room that the source's disk has.
    image: the name of a prebuilt one. processes: commands by name; jobs: command and schedule by name.
    services: what stands in each table of [services], by name. moves: what stands in [moves].
    """

    app: str | None = None
    root: str | None = None
    dockerfile: str | None = None
    image: str | None = None
    context: str | None = None
    zone: str | None = None
    machine: str | None = None
    memory: str | None = None
    health: str | None = None
    stop_grace: str | None = None
    domain: str | None = None
    port: int | None = None
    volumes: tuple[str, ...] = ()
    disk_gb: int | None = None
    render: str | None = None
    url: str | None = None
    runtime: str | None = None
    build_command: str | None = None
    start_command: str | None = None
    publish: str | None = None
    created: str | None = None
    variables: Mapping[str, Secret] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    secret_files: Mapping[str, Secret] = field(default_factory=dict)
    env_files: tuple[str, ...] = ()
    args: Mapping[str, str] = field(default_factory=dict)
    before_release: str | None = None
    routes: tuple[Route, ...] = ()
    headers: tuple[Header, ...] = ()
    processes: Mapping[str, str] = field(default_factory=dict)
    jobs: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    services: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    moves: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Import:
    """An import's result. changed: where the file and the source differ. notes: what else to know, or do."""

    settings: Settings = field(default_factory=Settings)
    carried: tuple[Carried, ...] = ()
    differently: tuple[Differently, ...] = ()
    left: tuple[Left, ...] = ()
    changed: tuple[Changed, ...] = ()
    notes: tuple[str, ...] = ()

    def taken_over(self, fields: Collection[str], by: str) -> Import:
        """The same, with fields that were not carried over now in something else."""
        moved = tuple(Differently(each.field, by) for each in self.left if each.field in fields)
        left = tuple(each for each in self.left if each.field not in fields)
        return replace(self, differently=(*self.differently, *moved), left=left)

    def as_json(self) -> dict[str, Json]:
        """Without settings: they hold secrets, and stand in rehost.toml."""
        return {
            "carried": [dict(each._asdict()) for each in self.carried],
            "differently": [dict(each._asdict()) for each in self.differently],
            "left": [dict(each._asdict()) for each in self.left],
            "changed": [dict(each._asdict()) for each in self.changed],
            "notes": list(self.notes),
        }


class Ledger:
    """Collects the three lists; a field name that comes again is numbered, so none is lost."""

    def __init__(self) -> None:
        self.carried: list[Carried] = []
        self.differently: list[Differently] = []
        self.left: list[Left] = []
        self._seen: dict[str, int] = {}

    def carry(self, name: str, to: str) -> None:
        self.carried.append(Carried(self._numbered(name), to))

    def change(self, name: str, how: str) -> None:
        self.differently.append(Differently(self._numbered(name), how))

    def leave(self, name: str, why: str, todo: str = "") -> None:
        self.left.append(Left(self._numbered(name), _sentence(why), _sentence(todo)))

    def _numbered(self, name: str) -> str:
        self._seen[name] = self._seen.get(name, 0) + 1
        return name if self._seen[name] == 1 else f"{name} ({self._seen[name]})"

    def close(self, settings: Settings) -> Import:
        return Import(settings, tuple(self.carried), tuple(self.differently), tuple(self.left))


def _sentence(text: str) -> str:
    if text.startswith("rehost "):  # its name is written small
        return f"{text}."
    return f"{text[0].upper()}{text[1:]}." if text else ""
