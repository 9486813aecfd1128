"""What is read in the same way for every service of a compose file (the Compose Specification)."""

from __future__ import annotations

import re
import shlex

from rehost.source import volumes
from rehost.source.leaves import Path as Way
from rehost.source.leaves import Tree
from rehost.source.yaml_text import Text

_INTERPOLATED = re.compile(r"\$\$|\$(?:\{(?P<braced>[A-Za-z_]\w*)(?P<rest>[^{}]*)\}|(?P<bare>[A-Za-z_]\w*))")


def pairs(tree: Tree, place: Way) -> list[tuple[Way, str, str | None]]:
    """A mapping, or a list of NAME=value; None for a value that is not there."""
    found: list[tuple[Way, str, str | None]] = []
    for name, value in tree.table(*place).items():
        found.append(((*place, name), name, value if isinstance(value, str) else None))
    at = tree.at(*place)
    for number, each in enumerate(at if isinstance(at, list) else []):
        if isinstance(each, str):
            name, equals, value = each.partition("=")
            found.append(((*place, number), name.strip(), value if equals else None))
    return found


def interpolated(value: str) -> str | None:
    """The value as docker compose makes it where nothing else is set: "$$" is "$", ${X:-d} is d. None without one."""
    known = True

    def put(found: re.Match[str]) -> str:
        nonlocal known
        if found[0] == "$$":
            return "$"
        rest = found["rest"] or ""
        default = rest[2:] if rest.startswith(":-") else rest[1:] if rest.startswith("-") else None
        known = known and default is not None
        return default or ""

    made = _INTERPOLATED.sub(put, value)
    return made if known and "${" not in made else None


def mounted(each: Text) -> tuple[str, str]:
    """Source and target of a volume, in its short or long form."""
    if isinstance(each, dict):
        source, target = each.get("source", ""), each.get("target", "")
        source = f"./{source}" if each.get("type") == "bind" else source
        return str(source), str(target)
    parts = str(each).split(":")
    return (parts[0], parts[1]) if len(parts) > 1 else ("", parts[0])


def volume(each: Text) -> str | None:
    """A named volume as run.volumes writes it; None for a directory of the computer, or what has no name.

    Raises ValueError for a path that is no plain one.
    """
    name, path = mounted(each)
    if not name or name.startswith((".", "/", "~")) or "$" in name:
        return None
    return volumes.named(name, path)


def command(value: Text | None) -> str:
    """A command, "" for none. Compose splits a text into words and runs no shell, as rehost does.

    "$$" is "$" in it; what is of the environment of docker compose stays as it stands.
    """
    if isinstance(value, list):
        return shlex.join(literal(each) for each in value if isinstance(each, str))
    try:
        return literal(value).strip() if isinstance(value, str) and shlex.split(literal(value)) else ""
    except ValueError:  # an open quote
        return ""


def literal(text: str) -> str:
    """The text as docker compose makes it, or as it stands where that is of its environment."""
    known = interpolated(text)
    return text if known is None else known
