"""Commands as platforms run them, in a shell, and as rehost.toml has them, without one."""

from __future__ import annotations

import re
import shlex
from collections.abc import Container
from pathlib import Path

from rehost.project.processes import part_name
from rehost.source.leaves import Path as Way
from rehost.source.leaves import Tree
from rehost.source.names import app_name
from rehost.source.yaml_text import Text

# What only a shell understands. "~" and "#" where a word begins.
_SHELL = re.compile(r"[$&|;<>`*?\n()\[\]{}]|(?:^|\s)[~#]|^\s*\w+=")
# What a directory's files say of its language, in the order in which buildpacks look.
_LANGUAGES = (
    ("ruby", ("Gemfile",)),
    ("python", ("requirements.txt", "pyproject.toml", "Pipfile", "setup.py", "uv.lock", "poetry.lock")),
    ("go", ("go.mod",)),
    ("rust", ("Cargo.toml",)),
    ("elixir", ("mix.exs",)),
    ("node", ("package.json",)),
)


def command(written: str) -> str:
    """A shell's line as rehost.toml has it: as it is, or given to sh where it needs one."""
    line = written.strip()
    try:
        simple = bool(shlex.split(line)) and not _SHELL.search(line)
    except ValueError:
        simple = False
    return line if simple else f"sh -c {shlex.quote(line)}"


def of_list(value: Text | None) -> str:
    """A command that stands as one text or as a list of words; "" for none."""
    if isinstance(value, list):
        return shlex.join(each for each in value if isinstance(each, str))
    return command(value) if isinstance(value, str) and value.strip() else ""


def name(written: str, taken: Container[str]) -> str | None:
    """The nearest name of a process or job that rehost.toml allows; None when it is taken or "web"."""
    try:
        made = part_name(app_name(written)[:30].strip("-"))
    except ValueError:
        return None
    return None if made in taken else made


def process(tree: Tree, path: Way, written: str, line: str, processes: dict[str, str]) -> None:
    """Takes a process beside the web process over into `processes`, or says why not. line: its command, "" for none."""
    known = name(written, processes)
    if not line or known is None:
        tree.leave(
            path, "its command or name is not understood", "write it into rehost.toml under [processes]"
        )
    else:
        tree.change(path, f"processes.{known}, of the same image with the same variables")
        processes[known] = line


def language(directory: Path) -> str | None:
    """The runtime that a Dockerfile can be drafted for (see `native`)."""
    for runtime, files in _LANGUAGES:
        if any((directory / each).is_file() for each in files):
            return runtime
    return None
