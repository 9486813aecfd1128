"""What the drafts of all runtimes are made of."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rehost.source import native_versions
from rehost.source.native_caddy import Header, Route
from rehost.source.native_commands import Build, command_line

# A number: no account is needed, and the files belong to root, so that the app cannot change its own code.
USER = "USER 10001:10001"


class Plan(NamedTuple):
    """What a draft is made from. publish: the directory of a static site. port: what the app listens on.

    routes, headers: of a static site. created: as in `native_versions.default`.
    """

    directory: Path
    build: Build
    start: str
    publish: str
    variables: Mapping[str, str]
    port: int
    routes: Sequence[Route] = ()
    headers: Sequence[Header] = ()
    created: str = ""


class Made(NamedTuple):
    """A draft's lines, what .dockerignore should have besides, and what the user should know."""

    lines: list[str]
    ignored: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Pin(NamedTuple):
    """A version and where it stands; "" where nothing says one."""

    version: str
    where: str = ""

    def comment(self, what: str) -> str:
        if self.where:
            return f"# {what} {self.version}: from {self.where}."
        return (
            f"# {what} {self.version}: nothing pins a version; compare with the one that the app has today."
        )


def pin(
    plan: Plan,
    language: str,
    variable: str,
    files: Sequence[tuple[str, str]],
    unread: Sequence[tuple[str, str]] = (),
) -> Pin:
    """The version that Render would take: a variable, else the first file whose pattern (one group) is found.

    unread: files that say a version and that Render does not look at; they count before its default, and that is said.
    """
    written = plan.variables.get(variable, "")
    if _VERSION.fullmatch(written.strip().lstrip("v")):
        return Pin(written.strip().lstrip("v"), f"the variable {variable}")
    for number, (name, pattern) in enumerate((*files, *unread)):
        found = re.search(pattern, text_of(plan.directory / name), re.MULTILINE)
        if found and _VERSION.fullmatch(found[1]):
            note = ", which Render does not look at: compare with the version that the app has today"
            return Pin(found[1], f"{name}{note if number >= len(files) else ''}")
    return Pin(*native_versions.default(language, plan.created))


_VERSION = re.compile(r"\d+(?:\.\d+){0,2}")


def text_of(path: Path) -> str:
    """A file's text; "" when it is not there, or not to be read: then nothing is known from it."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def there(plan: Plan, *names: str) -> list[str]:
    """Those of the names that the directory has."""
    return [name for name in names if (plan.directory / name).exists()]


def packages(*names: str) -> list[str]:
    """Debian packages, and nothing left behind of the installing."""
    if not names:
        return []
    listed = " ".join(dict.fromkeys(names))
    return [
        "RUN apt-get update \\",
        f"    && apt-get install -y --no-install-recommends {listed} \\",
        "    && rm -rf /var/lib/apt/lists/*",
    ]


def cmd(start: str) -> str:
    """CMD in its exec form; a start command that needs a shell gets one, which hands its place over."""
    return f"CMD {json.dumps(command_line(start), ensure_ascii=False)}"


def copy(names: Sequence[str], to: str = "./") -> str:
    """A COPY of names that may hold spaces."""
    if any(" " in name for name in names):
        return f"COPY {json.dumps([*names, to])}"
    return f"COPY {' '.join(names)} {to}"
