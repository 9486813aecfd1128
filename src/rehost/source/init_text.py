"""The text of rehost.toml that `init` writes: the documented example with its values replaced."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeAlias

from rehost.source.report import Settings

Key: TypeAlias = "tuple[str, str]"


def tables(settings: Settings) -> dict[str, list[str]]:
    """Lines of the processes and jobs that were found, by kind."""
    found: dict[str, list[str]] = {}
    for name, command in settings.processes.items():
        lines = found.setdefault("processes", [])
        lines += [f"[processes.{name}]", f"command = {_toml(command)}", ""]
    for name, (command, schedule) in settings.jobs.items():
        lines = found.setdefault("jobs", [])
        lines += [f"[jobs.{name}]", f"command = {_toml(command)}", f"schedule = {_toml(schedule)}", ""]
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
        if "." in table and (header or found):  # an example of what an app may have beside its web process
            if header:
                filled += beside.pop(table.partition(".")[0], [])
            filled.append(f"#{line}")
            continue
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
