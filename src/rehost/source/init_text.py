"""The text of rehost.toml that `init` writes: the documented example with its values replaced."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeAlias

from rehost.source.report import Settings

Key: TypeAlias = "tuple[str, str]"


def tables(settings: Settings) -> dict[str, list[str]]:
    """Lines of the processes, jobs and services that were found, by kind."""
    found: dict[str, list[str]] = {}
    for name, command in settings.processes.items():
        lines = found.setdefault("processes", [])
        lines += [f"[processes.{name}]", f"command = {_toml(command)}", ""]
    for name, (command, schedule) in settings.jobs.items():
        lines = found.setdefault("jobs", [])
        lines += [f"[jobs.{name}]", f"command = {_toml(command)}", f"schedule = {_toml(schedule)}", ""]
    for name, keys in settings.services.items():
        lines = found.setdefault("services", [])
        lines += [f"[services.{name}]", *(f"{key} = {_toml(value)}" for key, value in keys.items()), ""]
    if settings.moves:
        places = [f"{key} = {_toml(where)}" for key, where in settings.moves.items()]
        found["moves"] = ["[moves]", *places, ""]
    return found


def fill(
    example: str, values: Mapping[Key, object], reasons: Mapping[Key, str], settings: Settings | None = None
) -> str:
    """The example with values replaced (None: the line becomes a comment) and reasons above them.

    What `settings` has beside the web process stands before the example of its kind, which becomes a comment.
    """
    beside = tables(settings or Settings())
    filled: list[str] = []
    table = ""
    for line in example.splitlines():
        if header := re.fullmatch(r"\[([\w.]+)\]", line):
            table = header[1]
        found = re.fullmatch(r"(\w+) = .*", line)
        # An example of what an app may have beside its web process, or of content that it moves.
        if ("." in table or table == "moves") and (header or found):
            if header:
                filled += beside.pop(table.partition(".")[0], [])
            filled.append(f"#{line}")
            continue
        if (off := re.fullmatch(r"#(\w+) = .*", line)) and values.get((table, off[1])) is not None:
            found = off  # a key that the example shows and does not use
        key = (table, found[1]) if found else None
        if key is None or found is None or key not in values:
            filled.append(line)
            continue
        if key in reasons:
            filled.append(f"# {reasons[key]}")
        value = values[key]
        filled.append(f"#{line}" if value is None else f"{found[1]} = {_toml(value)}")
    return "\n".join(filled) + "\n"


def _toml(value: object) -> str:
    import tomlkit  # noqa: PLC0415  # only `init` writes TOML

    if isinstance(value, dict):
        inline = tomlkit.inline_table()
        inline.update(value)
        return inline.as_string()
    item = tomlkit.item(value)
    text = item.as_string()
    if isinstance(value, list) and len(text) > 100:
        text = "[\n" + "".join(f"    {tomlkit.item(each).as_string()},\n" for each in value) + "]"
    return text
