"""The variables of the service that moves: those written in the file, and those that stand at Render alone.

A service's own variable beats a group's; between groups the one linked last wins (Render's documentation,
"Environment groups").
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from rehost.project.dotenv import NAME
from rehost.run.secret import Secret
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


def carry_variables(
    service: Mapped, groups: list[tuple[str, Mapped]], settings: Settings, ledger: Ledger
) -> Settings:
    """`settings` with variables, required names and the port; all entries land in the ledger."""
    own, linked = _of_service(service, groups, ledger)
    of_groups = _of_groups(groups, linked, ledger)
    counts = {each.key: each for each in (*of_groups, *own)}
    values: dict[str, Secret] = {}
    for each in (*own, *of_groups):
        if counts[each.key] is not each:
            ledger.leave(each.place, "another value of the same name counts")
            continue
        value = _carry(each, ledger)
        if value is not None:
            values[each.key] = value
    required = tuple(dict.fromkeys(each.key for each in (*own, *of_groups)))
    return replace(settings, variables=values, required=required, port=port_of(values.get("PORT")))


def _of_service(
    service: Mapped, groups: list[tuple[str, Mapped]], ledger: Ledger
) -> tuple[list[_Entry], list[str]]:
    """The service's own entries, and the names of the groups that it links, in order."""
    place = f"{PREFIX}envVars"
    entries: list[_Entry] = []
    linked: list[str] = []
    for number, item in enumerate(_listed(service, place, ledger)):
        group = item.get("fromGroup") if isinstance(item, dict) and "key" not in item else None
        if isinstance(item, dict) and isinstance(group, str):
            linked.append(group)
            _link(item, group, f"{place}.fromGroup.{group}", groups, ledger)
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


def _link(item: Mapped, group: str, place: str, groups: list[tuple[str, Mapped]], ledger: Ledger) -> None:
    if any(each.get("name") == group for _, each in groups):
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


def _carry(each: _Entry, ledger: Ledger) -> Secret | None:
    """The value, when the file has it."""
    item = each.entry
    value = item.get("value")
    source = item.get("fromService") or item.get("fromDatabase")
    if isinstance(value, str):
        ledger.carry(each.place, "the env file")
        return Secret(value)
    if source:
        name = source.get("name", "") if isinstance(source, dict) else ""
        part = (source.get("property") or source.get("envVarKey") or "") if isinstance(source, dict) else ""
        of = " ".join(str(word) for word in (part, "of", name) if word) if name else "another service"
        ledger.leave(
            each.place,
            f"its value is {of}, which Render puts in; Render's internal names end at Render",
            f"write {each.key} into the env file, with an address that the machine reaches (it is in env.required)",
        )
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
