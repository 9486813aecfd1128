"""The variables of the service that moves: those written in the file, and those that stand at Render alone.

A service's own variable beats a group's; between groups the one linked last wins (Render's documentation,
"Environment groups").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from rehost.project.dotenv import NAME
from rehost.run.secret import Secret
from rehost.source import references
from rehost.source.report import Ledger, Settings
from rehost.source.service import PREFIX
from rehost.source.yaml_text import Mapped, Text

_AT_RENDER = "env.required; its value stands at Render alone"


@dataclass(frozen=True, slots=True)
class _Entry:
    """One variable of the file. place: the field's name in the report."""

    key: str
    entry: Mapped
    place: str


class Moved(NamedTuple):
    """A variable as the machine gets it. how: what became of the value, "" when it is Render's."""

    value: Secret
    how: str = ""


def carry_variables(
    service: Mapped,
    groups: list[tuple[str, Mapped]],
    services: list[Mapped],
    settings: Settings,
    ledger: Ledger,
) -> Settings:
    """`settings` with variables, required names and the port; all entries land in the ledger.

    services: all of the file, which values may refer to.
    """
    own, linked = _of_service(service, groups, ledger)
    of_groups = _of_groups(groups, linked, ledger)
    counts = {each.key: each for each in (*of_groups, *own)}
    values: dict[str, Secret] = {}
    for each in (*own, *of_groups):
        if counts[each.key] is not each:
            ledger.leave(each.place, "another value of the same name counts")
            continue
        value = _carry(each, service, services, ledger)
        if value is not None:
            values[each.key] = value
    required = tuple(dict.fromkeys(each.key for each in (*own, *of_groups)))
    return replace(settings, variables=values, required=required, port=port_of(values.get("PORT")))


def carry_live(
    service: Mapped,
    groups: list[tuple[str, Mapped]],
    live: Mapping[str, Moved],
    at_render: frozenset[str],
    settings: Settings,
    ledger: Ledger,
) -> tuple[Settings, dict[str, Text]]:
    """As `carry_variables`, where Render itself said what the values are; the file's entries are accounted for.

    at_render: the names of the groups that the service links there. Also hands back the values that the file
    gives, by name ({} where it has none), for the comparison.
    """
    own, linked = _of_service(service, groups, ledger, at_render)
    of_groups = _of_groups(groups, linked, ledger)
    for each in (*own, *of_groups):
        if each.key in live:
            ledger.carry(each.place, "the env file, with the value that Render has")
        else:
            ledger.leave(
                each.place,
                "Render does not have it: it was removed there, or the file was not synced since",
                f"write {each.key} into the env file if the app needs it",
            )
    listed = {each.key for each in (*own, *of_groups)}
    for key, moved in live.items():
        place = f"{PREFIX}envVars.{key}"
        if moved.how:
            ledger.change(f"{place} at Render" if key in listed else place, moved.how)
        elif key not in listed:
            ledger.carry(place, "the env file; it stands at Render alone")
    given: dict[str, Text] = {each.key: each.entry.get("value", {}) for each in (*of_groups, *own)}
    values = {key: moved.value for key, moved in live.items()}
    settings = replace(settings, variables=values, required=tuple(live), port=port_of(values.get("PORT")))
    return settings, given


def _of_service(
    service: Mapped,
    groups: list[tuple[str, Mapped]],
    ledger: Ledger,
    at_render: frozenset[str] = frozenset(),
) -> tuple[list[_Entry], list[str]]:
    """The service's own entries, and the names of the groups that it links, in order."""
    place = f"{PREFIX}envVars"
    entries: list[_Entry] = []
    linked: list[str] = []
    for number, item in enumerate(_listed(service, place, ledger)):
        group = item.get("fromGroup") if isinstance(item, dict) and "key" not in item else None
        if isinstance(item, dict) and isinstance(group, str):
            linked.append(group)
            _link(item, group, f"{place}.fromGroup.{group}", at_render | _names(groups), ledger)
        else:
            entries += _entry(item, place, number, ledger)
    return entries, linked


def _of_groups(groups: list[tuple[str, Mapped]], linked: list[str], ledger: Ledger) -> list[_Entry]:
    """The entries of the linked groups, in the order of the links."""
    found: dict[str, list[_Entry]] = {name: [] for name in linked}
    for place, group in groups:
        name = group.get("name")
        if not isinstance(name, str) or name not in found:
            ledger.leave(place, "the service does not use this group")
            continue
        for number, item in enumerate(_listed(group, place, ledger)):
            found[name] += _entry(item, place, number, ledger)
        for key in group.keys() - {"name", "envVars"}:
            ledger.leave(f"{place}.{key}", "rehost does not know this key", "see whether the app needs it")
    return [each for entries in found.values() for each in entries]


def _listed(holder: Mapped, place: str, ledger: Ledger) -> list[Text]:
    value = holder.get("envVars")
    if isinstance(value, list) and value:
        return value
    if value is not None:
        why = "it is not a list" if value else "it is empty"
        ledger.leave(place, why, "see whether the app needs it" if value else "")
    return []


def _names(groups: list[tuple[str, Mapped]]) -> frozenset[str]:
    return frozenset(name for _, group in groups if isinstance(name := group.get("name"), str))


def _link(item: Mapped, group: str, place: str, known: frozenset[str], ledger: Ledger) -> None:
    if group in known:
        ledger.carry(place, "the env file; the variables of the group are listed with it")
    else:
        ledger.leave(
            place,
            "the group stands at Render alone",
            "copy its variables from Render's dashboard into the env file, and name them in env.required",
        )
    for key in item.keys() - {"fromGroup"}:
        ledger.leave(f"{place}.{key}", "rehost does not know this key", "see whether the app needs it")


_READ = ("value", "fromService", "fromDatabase", "generateValue", "sync")


def _entry(item: Text, place: str, number: int, ledger: Ledger) -> list[_Entry]:
    """The one entry that an item of a list is; none, and a line in the ledger, when it is not understood."""
    key = item.get("key") if isinstance(item, dict) else None
    if not isinstance(item, dict) or not isinstance(key, str) or not NAME.fullmatch(key):
        why = "it names no variable, or one that no env file can hold"
        ledger.leave(f"{place}.{number}", why, "see whether the app needs it")
        return []
    for extra in item.keys() - {"key", *_READ}:
        if extra == "previewValue":
            why, todo = "rehost makes no preview environments", ""
        else:
            why, todo = "rehost does not know this key", "see whether the app needs it"
        ledger.leave(f"{place}.{key}.{extra}", why, todo)
    return [_Entry(key, item, f"{place}.{key}")]


def _carry(each: _Entry, service: Mapped, services: list[Mapped], ledger: Ledger) -> Secret | None:
    """The value, when the file has it."""
    item = each.entry
    value = item.get("value")
    if isinstance(value, str):
        ledger.carry(each.place, "the env file")
        return Secret(value)
    if item.get("fromService") or item.get("fromDatabase"):
        found = references.resolve(each.key, item, service, services)
        if found.value is not None:
            ledger.change(each.place, found.said)
            return found.value
        ledger.leave(each.place, found.said, found.todo)
    elif _true(item.get("generateValue")):
        ledger.change(
            each.place,
            f"{_AT_RENDER}: copy it into the env file, a new one would end every session signed with it",
        )
    else:
        ledger.change(each.place, f"{_AT_RENDER}: copy it from the dashboard into the env file")
    return None


def _true(value: Text | None) -> bool:
    return isinstance(value, str) and value.casefold() not in ("", "false", "no", "off")


def port_of(value: Secret | None) -> int | None:
    """The port that a PORT variable names, when it is one."""
    written = value.reveal() if value is not None else ""
    if written.isascii() and written.isdecimal() and 1 <= int(written) <= 65535:
        return int(written)
    return None
