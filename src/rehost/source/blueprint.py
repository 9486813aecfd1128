"""Render's Blueprint (`render.yaml`), read for what a machine of one's own needs of it.

Real files break Render's schema, so reading is lenient: what is known is used, and everything else is named in
the report with the reason why it was not carried over. Nothing vanishes: every field of the file is in exactly
one list of the `Import`. A field is a key of the service that moves (each of its variables counts as one), and
each other service, database, group or key of the file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rehost.project.dotenv import NAME
from rehost.run.errors import UsageError
from rehost.source import beside, render, render_live, stores, yaml_text
from rehost.source.blueprint_choice import ITEMS, Listed, choose, movable, name_of, scope_of
from rehost.source.render_export import Live
from rehost.source.report import Import, Ledger, Settings
from rehost.source.service import carry_field, kind_of
from rehost.source.variables import Moved, carry_live, carry_variables
from rehost.source.yaml_text import Mapped, Text


@dataclass(frozen=True, slots=True)
class _Contents:
    """What the file lists, each with the name that the report gives it."""

    services: list[Listed] = field(default_factory=list)
    databases: list[Listed] = field(default_factory=list)
    groups: list[Listed] = field(default_factory=list)


def read(path: Path, service: str | None = None, live: Live | None = None) -> Import:
    """The import of a file. Raises UsageError: not there, not YAML, or not clear which service is meant."""
    return parse(text_of(path), service, path.name, live)


def text_of(path: Path) -> str:
    """A blueprint's text. Raises UsageError."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as failed:
        raise UsageError(
            f"cannot be read: {failed.strerror}.", cure="Name the blueprint that is there.", where=str(path)
        ) from None
    except UnicodeDecodeError:
        raise UsageError("this is not UTF-8.", cure="Save the file as UTF-8.", where=str(path)) from None


def parse(
    text: str, service: str | None = None, file: str = "render.yaml", live: Live | None = None
) -> Import:
    """The import of a text; `service` names the one that moves, where there are several.

    live: the same service as it stands at Render. What it says counts, and what the file says otherwise is told.
    """
    contents, ledger = _contents(text, file)
    if live is not None and service is None:
        if any(name_of(each) == live.name for _, each in contents.services):
            service = live.name
        elif sum(kind_of(each) == "web" for _, each in contents.services) != 1:
            return _undescribed(live, file)
    place, chosen = choose(contents.services, service, file)
    others = [(shown, each) for shown, each in contents.services if each is not chosen]
    for shown, _ in contents.databases:
        ledger.leave(
            shown,
            "a database stays where it is, unless you say otherwise",
            "give the app its external address in the env file; or give the app one of its own ([services.postgres]), "
            "and `rehost move` brings what it holds",
        )
    groups = _in_reach(contents.groups, place, ledger)
    if live is not None:
        in_file = frozenset(name_of(each) for _, each in contents.services)
        return _with_live(chosen, groups, live, in_file, ledger, others)
    services = [each for shown, each in contents.services if scope_of(shown) == scope_of(place)]
    services += [each for shown, each in contents.services if scope_of(shown) != scope_of(place)]
    settings = carry_variables(chosen, groups, services, Settings(), ledger)
    return _close(chosen, _beside(others, chosen, settings, ledger), ledger)


def _beside(others: list[Listed], app: Mapped, settings: Settings, ledger: Ledger) -> Settings:
    """`settings` with what of the other services is the app's own; the rest is left."""
    for shown, each in others:
        made = beside.carry(shown, each, app, settings, ledger)
        if made is None:
            _leave_service(shown, each, ledger)
        settings = made or settings
    return settings


def service_name(text: str, service: str | None, file: str) -> str:
    """The name of the service that moves, "" when it has none. Raises UsageError as `parse`."""
    return name_of(choose(_contents(text, file)[0].services, service, file)[1])


def of_live(live: Live) -> Import:
    """The import of a service that no file describes. Raises UsageError when it is none that rehost moves."""
    movable(live.name, live.kind, "", "Render")
    return _with_live({}, [], live, frozenset(), Ledger())


def _undescribed(live: Live, file: str) -> Import:
    ledger = Ledger()
    ledger.leave(
        file,
        f"it describes other services, and none called {live.name}",
        "name the one that it is in the file with --service, if it is one of them",
    )
    return _with_live({}, [], live, frozenset(), ledger)


def _contents(text: str, file: str) -> tuple[_Contents, Ledger]:
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
    return contents, ledger


# What Render's API would name if the service had it.
_TOLD = (
    "disk",
    "domain",
    "domains",
    "scaling",
    "preDeployCommand",
    "dockerCommand",
    "healthCheckPath",
    "rootDir",
    "image",
    "routes",
    "headers",
)


def _with_live(
    written: Mapped,
    groups: list[Listed],
    live: Live,
    in_file: frozenset[str],
    ledger: Ledger,
    others: Sequence[Listed] = (),
) -> Import:
    """in_file: the names of all services of the file. others: those that are not the app."""
    variables: dict[str, Moved] = {}
    for key, moved in stores.moved(live).items():
        if NAME.fullmatch(key):
            variables[key] = moved
        else:
            ledger.leave(
                f"service.envVars.{key}", "no env file can hold a variable of this name", "rename it"
            )
    linked = frozenset(group.name for group in live.groups)
    settings, given = carry_live(written, groups, variables, linked, Settings(), ledger)
    settings = _beside([*others], written, settings, ledger)
    kept_files = {
        name: content
        for name, content in live.effective_files.items()
        if re.fullmatch(r"[A-Za-z0-9_.-]{1,255}", name, re.ASCII) and name not in (".", "..")
    }
    for name in live.effective_files:
        if name not in kept_files:
            ledger.leave(
                f"service.secretFiles.{name}",
                "no file of the machine is to have this name",
                "rename it at Render",
            )
            continue
        ledger.carry(
            f"service.secretFiles.{name}", f"env.secret_files; the container has it at /etc/secrets/{name}"
        )
    for each in live.domains:
        if each.get("redirectForName"):
            to = each["redirectForName"]
            ledger.leave(
                f"service.domains.{each.get('name')}",
                f"at Render it redirects to {to}, and rehost serves one name per app",
                f"let whoever serves it redirect to {to}: many hosts of DNS offer that",
            )
    for each in (sibling for sibling in live.siblings if str(sibling.get("name")) not in in_file):
        _leave_service(
            f"services at Render.{each.get('name')}", {"type": str(each.get("type") or "")}, ledger
        )
    there = render_live.service_of(live, {})
    settings = replace(
        settings,
        render=str(live.service.get("id") or "") or None,
        created=str(live.service.get("createdAt") or "") or None,
        url=render_live.url_of(live.service),
        port=settings.port or next(iter(render_live.ports(live.service)), None),
        secret_files=kept_files,
    )
    # A key that Render has in another word is the file's no more.
    aliases = {"env": "runtime", "domain": "domains", "autoDeployTrigger": "autoDeploy"}
    kept: Mapped = {}
    for key, value in written.items():
        if aliases.get(key) in there:
            ledger.carry(f"service.{key}", f"as Render has it: service.{aliases[key]}")
        elif key in _TOLD and key not in there:
            ledger.leave(
                f"service.{key}",
                "the service has none at Render: it was removed there, or the file was not synced since",
                "set it in rehost.toml by hand if the app needs it" if value else "",
            )
        elif key != "envVars":
            kept[key] = value
    made = _close({**kept, **there}, settings, ledger)
    settings = replace(made.settings, moves=render_live.moves_of(live.service, made.settings.volumes))
    changed = render_live.changes(written, given, live) if written else ()
    return replace(made, settings=settings, changed=changed)


def _close(service: Mapped, settings: Settings, ledger: Ledger) -> Import:
    """The rest of the fields. Where all is silent, Render's own defaults count."""
    # What an image means depends on the runtime.
    for key, value in sorted(service.items(), key=lambda item: item[0] == "image"):
        if key != "envVars":
            settings = carry_field(key, value, settings, ledger)
    settings = replace(
        settings,
        zone=settings.zone or render.ZONES[render.DEFAULT_REGION],
        machine=settings.machine or render.DEFAULT_ROOM.machine,
        memory=settings.memory or render.DEFAULT_ROOM.memory,
    )
    return ledger.close(settings)


def _in_reach(groups: list[Listed], place: str, ledger: Ledger) -> list[Listed]:
    """Of groups that bear the same name the nearest: the environment's own, its project's, the file's.

    At Render a service sees no others ("envVarGroups patterns"); where none of these has a name, any other is taken.
    """
    scope = scope_of(place)

    def nearness(shown: str) -> int:
        found = scope_of(shown)
        return len(found) if scope.startswith(found) else -1

    nearest: dict[str, int] = {}
    for shown, group in groups:
        nearest[name_of(group)] = max(nearest.get(name_of(group), -1), nearness(shown))
    found: list[Listed] = []
    for shown, group in groups:
        if nearness(shown) < nearest[name_of(group)]:
            ledger.leave(shown, "it is the group of another environment, or a nearer one has its name")
        else:
            found.append((shown, group))
    return found


_KEYS: dict[str, tuple[str, str]] = {
    "version": ("it is the version of the blueprint's own form", ""),
    "previews": ("rehost makes no preview environments", ""),
    "previewsEnabled": ("rehost makes no preview environments", ""),
    "previewsExpireAfterDays": ("rehost makes no preview environments", ""),
    "networking": ("the machine is in no network of Render's", ""),
    "networkIsolation": ("the machine is in no network of Render's", ""),
    "permissions": ("who may do what is for Google's IAM and the machine's accounts to say", ""),
    "protectedStatus": ("who may do what is for Google's IAM and the machine's accounts to say", ""),
}


def _gather(scope: Mapped, prefix: str, contents: _Contents, ledger: Ledger) -> None:
    """The items of the file's top, or of one environment of a project."""
    for key, value in scope.items():
        shown = f"{prefix}{key}"
        if key in ITEMS:
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
        elif key == "name" and prefix not in ("", "ungrouped.") and isinstance(value, str) and value:
            if len(scope) == 1:  # otherwise it stands in the prefix of what comes
                ledger.leave(shown, "there is nothing in it")
        else:
            ledger.leave(
                shown, *_KEYS.get(key, ("rehost does not know this key", "see whether the app needs it"))
            )


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


_KINDS = {
    "worker": (
        "it is a background worker: it answers no HTTP",
        "if it is the app's own code, write it into rehost.toml under [processes]; else keep it at Render, or move it "
        "by itself later",
    ),
    "cron": (
        "it is a cron job",
        "if it is the app's own code, write it into rehost.toml under [jobs]; never let it run on both sides",
    ),
    "keyvalue": (
        "a Key Value store stays where it is, unless you say otherwise",
        "give the app its external address in the env file, since internal names end at Render; or give the app one of "
        "its own ([services.redis]), and `rehost move` brings what it holds",
    ),
    "static": ("it is a static site", "leave it at Render or at any host of static files"),
}


def _leave_service(shown: str, service: Mapped, ledger: Ledger) -> None:
    kind = kind_of(service)
    why, todo = _KINDS.get(
        kind, ("one service moves at a time", "run rehost init in a directory of its own for it")
    )
    ledger.leave(shown, why, todo)
