"""Render's Blueprint (`render.yaml`), read for what a machine of one's own needs of it.

Real files break Render's schema, so reading is lenient: what is known is used, and everything else is named in
the report with the reason why it was not carried over. Nothing vanishes: every field of the file is in exactly
one list of the `Import`. A field is a key of the service that moves (each of its variables counts as one), and
each other service, database, group or key of the file.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from rehost.run.errors import UsageError
from rehost.source import render, yaml_text
from rehost.source.report import Import, Ledger, Settings
from rehost.source.service import carry_field, kind_of
from rehost.source.variables import carry_variables
from rehost.source.yaml_text import Mapped, Text

_GROUPS_OF_ITEMS = ("services", "databases", "envVarGroups")


@dataclass(frozen=True, slots=True)
class _Contents:
    """What the file lists, each with the name that the report gives it."""

    services: list[tuple[str, Mapped]] = field(default_factory=list)
    databases: list[tuple[str, Mapped]] = field(default_factory=list)
    groups: list[tuple[str, Mapped]] = field(default_factory=list)


def read(path: Path, service: str | None = None) -> Import:
    """The import of a file. Raises UsageError: not there, not YAML, or not clear which service is meant."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as failed:
        raise UsageError(
            f"cannot be read: {failed.strerror}.", cure="Name the blueprint that is there.", where=str(path)
        ) from None
    except UnicodeDecodeError:
        raise UsageError("this is not UTF-8.", cure="Save the file as UTF-8.", where=str(path)) from None
    return parse(text, service, path.name)


def parse(text: str, service: str | None = None, file: str = "render.yaml") -> Import:
    """The import of a text; `service` names the one that moves, where there are several."""
    document, twice = yaml_text.read(text, file)
    if not isinstance(document, dict):
        raise UsageError(
            "this is not a blueprint: its top is no mapping.", cure="It begins with services:.", where=file
        )
    ledger = Ledger()
    for key, line in twice:
        ledger.leave(
            f"{key}, line {line}", "the key stands twice in one mapping", "remove one: the last counts"
        )
    contents = _Contents()
    _gather(document, "", contents, ledger)
    chosen = _choose([each for _, each in contents.services], service, file)
    for shown, each in contents.services:
        if each is not chosen:
            _leave_service(shown, each, ledger)
    for shown, _ in contents.databases:
        ledger.leave(
            shown,
            "rehost moves the app, not its database",
            "keep it where it is, or move it with its own tools; the app finds it by a variable of the env file",
        )
    settings = carry_variables(chosen, contents.groups, Settings(), ledger)
    for key, value in chosen.items():
        if key != "envVars":
            settings = carry_field(key, value, settings, ledger)
    # Where the file is silent, Render's own defaults count.
    settings = replace(
        settings,
        zone=settings.zone or render.ZONES[render.DEFAULT_REGION],
        machine=settings.machine or render.DEFAULT_ROOM.machine,
        memory=settings.memory or render.DEFAULT_ROOM.memory,
    )
    return ledger.close(settings)


def _gather(scope: Mapped, prefix: str, contents: _Contents, ledger: Ledger) -> None:
    """The items of the file's top, or of one environment of a project."""
    for key, value in scope.items():
        shown = f"{prefix}{key}"
        if key in _GROUPS_OF_ITEMS:
            kept = {
                "services": contents.services, "databases": contents.databases, "envVarGroups": contents.groups
            }[key]  # fmt: skip
            kept += _mappings(value, shown, ledger)
        elif key == "projects" and not prefix:
            for name, project in _mappings(value, shown, ledger):
                _gather(project, f"{name}.", contents, ledger)
        elif key == "environments" and prefix:
            for name, environment in _mappings(value, shown, ledger):
                _gather(environment, f"{name}.", contents, ledger)
        elif key == "ungrouped" and isinstance(value, dict) and value:
            _gather(value, f"{shown}.", contents, ledger)
        elif key == "name" and prefix not in ("", "ungrouped."):
            continue  # it stands in the prefix already
        elif key == "version":
            ledger.leave(shown, "it is the version of the blueprint's own form")
        elif key == "previews":
            ledger.leave(shown, "rehost makes no preview environments", "")
        else:
            ledger.leave(shown, "rehost does not know this key", "see whether the app needs it")


def _mappings(value: Text, shown: str, ledger: Ledger) -> list[tuple[str, Mapped]]:
    if not value:
        ledger.leave(shown, "it is empty")
        return []
    if not isinstance(value, list):
        ledger.leave(shown, "it is not a list", "see whether the app needs it")
        return []
    found: list[tuple[str, Mapped]] = []
    for number, each in enumerate(value):
        if isinstance(each, dict) and each:
            found.append((f"{shown}.{name_of(each) or number}", each))
        else:
            ledger.leave(f"{shown}.{number}", "it says nothing", "see whether the app needs it")
    return found


def name_of(item: Mapped) -> str:
    """The name of a service, database or group, "" when it has none."""
    name = item.get("name", "")
    return name if isinstance(name, str) else ""


def _choose(services: list[Mapped], wanted: str | None, file: str) -> Mapped:
    listed = ", ".join(f"{name_of(each) or '(no name)'} ({kind_of(each)})" for each in services) or "none"
    if wanted is not None:
        for each in services:
            if name_of(each) == wanted:
                if kind_of(each) not in ("web", "pserv"):
                    raise UsageError(
                        f"{wanted}: a {kind_of(each)} service answers no HTTP of its own; rehost moves web services.",
                        cure=f"Services of the file: {listed}.",
                        where=file,
                    )
                return each
        raise UsageError(
            f'there is no service "{wanted}" in it.', cure=f"Services of the file: {listed}.", where=file
        )
    web = [each for each in services if kind_of(each) == "web"]
    if len(web) == 1:
        return web[0]
    raise UsageError(
        f"{len(web)} of its services are web services." if web else "it has no web service.",
        cure=f"Name the one that moves with --service. Services of the file: {listed}."
        if web
        else f"rehost moves what answers HTTP. Services of the file: {listed}.",
        where=file,
    )


_KINDS = {
    "worker": (
        "it is a background worker: it answers no HTTP",
        "keep it at Render, or move it by itself later",
    ),
    "cron": ("it is a cron job", "keep it at Render; never let it run on both sides"),
    "keyvalue": (
        "rehost moves the app, not its Key Value store",
        "its address must be one that the machine reaches: Render's internal names end at Render",
    ),
    "static": ("it is a static site", "leave it at Render or at any host of static files"),
}


def _leave_service(shown: str, service: Mapped, ledger: Ledger) -> None:
    kind = kind_of(service)
    why, todo = _KINDS.get(
        kind, ("one service moves at a time", "run rehost init in a directory of its own for it")
    )
    ledger.leave(shown, why, todo)
