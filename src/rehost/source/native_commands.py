"""Build and start commands, taken apart as far as a Dockerfile needs it."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import NamedTuple

from rehost.run.errors import UsageError
from rehost.source import commands

# What only a shell can do: variables, pipes, several commands, redirections, patterns.
_SHELL = re.compile(r"[$`|&;<>()*?\[\]{}~\n#]")
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
# A database's schema: there is no database while an image is built.
_MIGRATION = re.compile(
    r"\bmigrate\b|\bdb:(?:migrate|prepare|setup|schema:load|seed)|alembic\s+upgrade|flask\s+db\s+upgrade"
    r"|prisma\s+(?:migrate\s+deploy|db\s+push)|ecto\.migrate|sequelize.*db:migrate|knex\s+migrate|typeorm.*migration:run"
    r"|createsuperuser|drizzle-kit\s+(?:push|migrate)"
)
_SCRIPT = re.compile(r"(?:(?:ba)?sh\s+)?(?:\./)?([\w./-]+\.sh|bin/[\w.-]+)")
_BLOCK = re.compile(
    r"^\s*(?:(?:if|for|while|case|until|function|then|else|elif|fi|do|done|esac)\b|\w+\s*\(\s*\)|[{}])|<<|\\$"
)


class Build(NamedTuple):
    """A build command's steps, in order, without those that need a database. notes: what was left out."""

    steps: tuple[str, ...]
    notes: tuple[str, ...] = ()


def build_steps(command: str, directory: Path) -> Build:
    """The steps of a build command; a script of plain lines counts as its lines."""
    notes: list[str] = []
    steps: list[str] = []
    for step in split(command):
        script = _SCRIPT.fullmatch(step)
        lines = _plain_lines(directory / script[1]) if script else None
        steps += [step] if lines is None else [part for line in lines for part in split(line)]
        if script and lines is None and (directory / script[1]).is_file():
            text = (directory / script[1]).read_text(encoding="utf-8", errors="replace")
            if _MIGRATION.search(text):
                notes.append(
                    f"{script[1]} changes the database's schema, and there is no database while an image is built: "
                    "take that out of it."
                )
    kept = []
    for step in steps:
        if _MIGRATION.search(step):
            notes.append(
                f"left out of the build: `{step}`. There is no database while an image is built; its place is "
                f"before_release = {json.dumps(commands.command(step), ensure_ascii=False)} under [run]."
            )
        else:
            kept.append(step)
    if kept:
        notes.append("the build sees none of the app's variables; on platforms it often does.")
    return Build(tuple(kept), tuple(notes))


def split(command: str) -> list[str]:
    """The commands of a line that follow each other by `&&`, `;` or a new line; one that is not plain stays whole."""
    if re.search(r"\|\||`|\$\(|<<|^\s*(?:if|for|while|case)\b", command):
        return [command.strip()] if command.strip() else []
    try:
        lexer = shlex.shlex(command.replace("\n", " ; "), posix=False, punctuation_chars="&;")
        lexer.whitespace_split = True
        lexer.commenters = ""
        words = list(lexer)
    except ValueError:  # an open quote: a shell would say so better
        return [command.strip()]
    steps: list[list[str]] = [[]]
    for word in words:
        if word in ("&&", ";", ";;"):
            steps.append([])
        else:
            steps[-1].append(word)
    return [" ".join(step) for step in steps if step]


def _plain_lines(script: Path) -> list[str] | None:
    """The commands of a script, when each line is one; None for a script with a structure, or none at all."""
    try:
        text = script.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if any(_BLOCK.search(line) for line in lines):
        return None
    return [line for line in lines if not re.match(r"set\s+[-+]|echo\s", line)]


def command_line(start: str) -> list[str]:
    """The words of CMD's exec form. A command that needs a shell is its last word, and ends in `exec`."""
    start = " ".join(start.split("\n")).strip()
    plain = not _SHELL.search(_unquoted(start))
    if plain:
        try:
            words = shlex.split(start)
        except ValueError:
            words = []
        if words and not _ASSIGNMENT.match(words[0]):
            return words
    steps = split(start) or [start]
    steps[-1] = f"exec {_unassigned(steps[-1])}" if _can_exec(steps[-1]) else steps[-1]
    return ["sh", "-c", " && ".join(steps) if len(steps) > 1 else steps[0]]


def _unquoted(text: str) -> str:
    """Without what stands in single quotes, where a shell looks at nothing."""
    return re.sub(r"'[^']*'", "", text)


def _can_exec(step: str) -> bool:
    return re.search(r"[|&;(){}]", _unquoted(step)) is None and not re.match(
        r"(?:exec|if|for|while|cd)\b", step
    )


def _unassigned(step: str) -> str:
    """`A=1 app` becomes `env A=1 app`: exec takes a program."""
    return f"env {step}" if _ASSIGNMENT.match(step) else step


def procfile(directory: Path) -> str:
    """The command of the Procfile's web process, "" without one."""
    try:
        text = (directory / "Procfile").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
    found = re.search(r"^web:\s*(\S.*)$", text, re.MULTILINE)
    return found[1].strip() if found else ""


def nothing_to_start(cure: str) -> UsageError:
    """The error for an app of which nothing says how it starts."""
    return UsageError("nothing says how the app starts: no startCommand, no Procfile.", cure=cure)
