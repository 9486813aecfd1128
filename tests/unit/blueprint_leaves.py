"""Every leaf of a blueprint under the name that the import's report gives it, made without the importer."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rehost.source.report import Import
from rehost.source.yaml_text import Mapped, Text

_ITEMS = ("services", "databases", "envVarGroups")


def leaves(document: Mapped, chosen: Mapped) -> list[str]:
    """The names of all leaves; `chosen` is the service that moves. An empty list or mapping is a leaf."""
    return list(_scope(document, "", chosen))


def _scope(scope: Mapped, prefix: str, chosen: Mapped) -> Iterator[str]:
    for key, value in scope.items():
        if key in _ITEMS and isinstance(value, list) and value:
            for number, item in enumerate(value):
                place = f"{prefix}{key}.{_name(item) or number}"
                if item is chosen:
                    yield from _holder(chosen, "service")
                elif key == "envVarGroups" and isinstance(item, dict):
                    yield from _holder(item, place)
                else:
                    yield from _plain(item, place)
        elif (key == "projects" and not prefix) or (key == "environments" and prefix):
            for number, item in enumerate(value) if isinstance(value, list) else ():
                place = f"{prefix}{key}.{_name(item) or number}"
                yield from _scope(item, f"{place}.", chosen) if isinstance(item, dict) and item else [place]
            if not value or not isinstance(value, list):
                yield from _plain(value, f"{prefix}{key}")
        elif key == "ungrouped" and isinstance(value, dict) and value:
            yield from _scope(value, f"{prefix}{key}.", chosen)
        else:
            yield from _plain(value, f"{prefix}{key}")


def _name(item: Text) -> str:
    name = item.get("name") if isinstance(item, dict) else None
    return name if isinstance(name, str) else ""


def _holder(item: Mapped, place: str) -> Iterator[str]:
    """A service or group, whose variables are told by name."""
    for key, value in item.items():
        if key == "envVars" and isinstance(value, list) and value:
            for number, entry in enumerate(value):
                yield from _entry(entry, number, f"{place}.envVars" if place == "service" else place)
        elif key in ("domain", "domains") and place == "service" and value:
            for number, domain in enumerate(value if isinstance(value, list) else [value]):
                yield f"{place}.{key}.{domain if isinstance(domain, str) else number}"
        else:
            yield from _plain(value, f"{place}.{key}")


def _entry(entry: Text, number: int, place: str) -> Iterator[str]:
    if isinstance(entry, dict):
        key, group = entry.get("key"), entry.get("fromGroup")
        if isinstance(group, str) and "key" not in entry and place == "service.envVars":
            rest = {each: value for each, value in entry.items() if each != "fromGroup"}
            yield f"{place}.fromGroup.{group}"
            yield from _plain(rest, f"{place}.fromGroup.{group}") if rest else ()
            return
        if isinstance(key, str) and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key):
            yield from _plain(entry, f"{place}.{key}")
            return
    yield from _plain(entry, f"{place}.{number}")


def _plain(value: Text, place: str) -> Iterator[str]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _plain(inner, f"{place}.{key}")
    elif isinstance(value, list) and value:
        for number, inner in enumerate(value):
            yield from _plain(inner, f"{place}.{number}")
    else:
        yield place


def lists(found: Import) -> dict[str, str]:
    """Each field of the report with the list that it is in."""
    return {
        **{each.field: "carried" for each in found.carried},
        **{each.field: "differently" for each in found.differently},
        **{each.field: "left" for each in found.left},
    }


def lost(document: Mapped, chosen: Mapped, found: Import) -> list[str]:
    """Leaves that stand in none of the three lists: neither they nor what they are part of.

    The name of a project or environment stands in the names of what is in it, that of a group in its link.
    """
    told = {re.sub(r" \(\d+\)$", "", field) for field in lists(found)}

    def covered(leaf: str) -> bool:
        if any(leaf == field or leaf.startswith(f"{field}.") for field in told):
            return True
        owner, _, last = leaf.rpartition(".")
        if last != "name":
            return False
        group = owner.rpartition("envVarGroups.")[2]
        return (
            any(field.startswith(f"{owner}.") for field in told)
            or f"service.envVars.fromGroup.{group}" in told
        )

    return [leaf for leaf in leaves(document, chosen) if not covered(leaf)]
