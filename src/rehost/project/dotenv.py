"""dotenv files, read and written exactly.

The form is the one that the common tools share:

- `KEY=value`, with `export ` before it if you like. Names are letters, digits and "_", and begin with no
  digit.
- Without quotes a value ends at the end of the line, or at a `#` with a space or tab before it. Spaces and
  tabs around it are dropped. `KEY=#x` is the value `#x`; `KEY= # x` is empty.
- In single quotes everything is literal, new lines too. In double quotes `\\n`, `\\r`, `\\t`, `\\"`,
  `\\\\` and `\\$` are escapes; any other backslash is a backslash. Both may span lines. After the closing
  quote only a comment may stand.
- `$` is literal everywhere: nothing is interpolated, so the password in a connection string survives.
- A BOM is skipped; lines may end in CRLF, and a CRLF inside quotes is one new line.

Errors and findings name the file, the line and the key, never the value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from rehost.project import files
from rehost.run.errors import UsageError
from rehost.run.secret import Secret

if TYPE_CHECKING:
    from rehost.project.config import Project

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)

_START = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=", re.ASCII)
_BLANK = re.compile(r"[ \t]*(?:#[^\n]*)?\r?(?:\n|\Z)")  # also what may follow a closing quote
_SINGLE = re.compile(r"'([^']*)'")
_DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_WRITTEN = {"\n": "\\n", "\r": "\\r", "\t": "\\t", '"': '\\"', "\\": "\\\\", "$": "\\$"}
_BARE = re.compile(r"[A-Za-z0-9_./:@%+,=-]*", re.ASCII)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$"}
# A wrong name is shown only when it cannot be a piece of a key or token that lost its quotes.
_SHOWABLE = re.compile(
    r"[ \t]*(?:export[ \t]+)?([A-Za-z0-9_]{1,30}[-. ][A-Za-z0-9_.-]{0,30})[ \t]*=", re.ASCII
)


class Variable(NamedTuple):
    """One assignment. line: from 1. span: of its whole lines; value_span: of the value with its quotes."""

    name: str
    value: Secret
    line: int
    span: tuple[int, int]
    value_span: tuple[int, int]


class EnvFile(NamedTuple):
    """A dotenv file's assignments, in order; `name` is how errors and findings call the file."""

    name: str
    assignments: tuple[Variable, ...]

    @property
    def variables(self) -> dict[str, Variable]:
        """By name; of several assignments of one name the last counts."""
        return {each.name: each for each in self.assignments}

    @property
    def duplicates(self) -> list[tuple[Variable, Variable]]:
        """Each assignment that a later one of the same name overrides, with that one."""
        last = self.variables
        return [(each, last[each.name]) for each in self.assignments if last[each.name] is not each]


class Environment(NamedTuple):
    """The variables of several files together. origin: "file:line" by name. missing: required, not there."""

    values: Mapping[str, Secret]
    origin: Mapping[str, str]
    missing: tuple[str, ...] = ()


def merge(parts: Iterable[EnvFile], required: Iterable[str] = ()) -> Environment:
    """One environment of several files; later ones win."""
    values: dict[str, Secret] = {}
    origin: dict[str, str] = {}
    for file in parts:
        for name, variable in file.variables.items():
            values[name] = variable.value
            origin[name] = f"{file.name}:{variable.line}"
    missing = tuple(name for name in required if name not in values)
    return Environment(MappingProxyType(values), MappingProxyType(origin), missing)


def read_env(project: Project) -> Environment:
    """The environment of a project's container. Raises UsageError for a missing file or a bad line."""
    found = [read(project.directory / name, name) for name in project.env.files]
    return merge(found, project.env.required)


def read(path: Path, name: str | None = None) -> EnvFile:
    """A file's assignments. Raises UsageError when it is not there, not UTF-8, or has a bad line."""
    shown = name or str(path)
    data = files.read(
        path,
        shown,
        "there is no such env file.",
        "`rehost env set NAME` makes it; for an app without variables write files = [] under [env] in rehost.toml.",
    )
    return parse(decode(data, shown), shown)


def decode(data: bytes, name: str) -> str:
    """The text of a file, BOM included. Raises UsageError with the line when it is not UTF-8."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as failed:
        line = data.count(b"\n", 0, failed.start) + 1
        raise UsageError(
            "this line is not UTF-8.", cure="Save the file as UTF-8.", where=f"{name}:{line}"
        ) from None


def parse(text: str, name: str) -> EnvFile:
    """The assignments of a text. Raises UsageError for the first bad line."""
    found: list[Variable] = []
    position = 1 if text.startswith("\ufeff") else 0
    line = 1
    while position < len(text):
        blank = _BLANK.match(text, position)
        if blank is not None:
            end = blank.end()
        else:
            variable = _assignment(text, position, line, name)
            found.append(variable)
            end = variable.span[1]
        line += text.count("\n", position, end)
        position = end
    return EnvFile(name, tuple(found))


def _assignment(text: str, position: int, line: int, file: str) -> Variable:
    where = f"{file}:{line}"
    start = _START.match(text, position)
    if start is None:
        _refuse_line(text, position, where)
    key = start[1]
    value_start = _skip_spaces(text, start.end())
    if text[value_start : value_start + 1] in ("'", '"'):
        value, end = _quoted(text, value_start, key, where)
        if _BLANK.match(text, end) is None:
            raise UsageError(
                f"{key}: text stands after the closing quote.",
                cure='Inside double quotes write a quote as \\"; a comment after a value begins with "#".',
                where=where,
            )
        value_span = (value_start, end)
    else:
        value, value_span = _unquoted(text, start.end())
        if value.startswith("-----BEGIN "):
            raise UsageError(
                f"{key}: a value of several lines needs quotes.",
                cure="Put a double quote before its first line and one after its last.",
                where=where,
            )
    if "\0" in value:
        raise UsageError(
            f"{key}: the value holds a NUL byte.", cure="No environment can carry one.", where=where
        )
    newline = text.find("\n", value_span[1])
    return Variable(key, Secret(value), line, (position, newline + 1 or len(text)), value_span)


def _skip_spaces(text: str, position: int) -> int:
    while text[position : position + 1] in (" ", "\t"):
        position += 1
    return position


def _unquoted(text: str, position: int) -> tuple[str, tuple[int, int]]:
    end = text.find("\n", position)
    rest = text[position : end if end >= 0 else len(text)].removesuffix("\r")
    comment = re.search(r"[ \t]#", rest)
    if comment is not None:
        rest = rest[: comment.start()]
    value = rest.strip(" \t")
    start = position + (len(rest) - len(rest.lstrip(" \t")) if value else 0)
    return value, (start, start + len(value))


def _quoted(text: str, position: int, key: str, where: str) -> tuple[str, int]:
    quote = text[position]
    found = (_SINGLE if quote == "'" else _DOUBLE).match(text, position)
    if found is None:
        raise UsageError(
            f"{key}: the quote that opens here is never closed.",
            cure=f"Close it with {quote}, or quote the value with the other kind.",
            where=where,
        )
    value = found[1].replace("\r\n", "\n")
    if quote == '"':
        value = _ESCAPE.sub(lambda escape: _ESCAPES.get(escape[1], escape[0]), value)
    return value, found.end()


def _refuse_line(text: str, position: int, where: str) -> NoReturn:
    shown = _SHOWABLE.match(text, position)
    if shown is not None:
        raise UsageError(
            f"{shown[1]}: this is not the name of a variable.",
            cure='Names are made of letters, digits and "_", and begin with no digit.',
            where=where,
        )
    raise UsageError(
        "this line is not KEY=value.",
        cure='Write KEY=value; a comment begins with "#"; a value of several lines stands in quotes.',
        where=where,
    )


def quoted(value: str) -> str:
    """A value as it may stand after `KEY=`: bare, in single quotes, or in double quotes.

    Single quotes come before double ones because other readers of the file interpolate `$` in double quotes.
    """
    if _BARE.fullmatch(value):
        return value
    if not set(value) & {"'", "\\", "\n", "\r"}:
        return f"'{value}'"
    return '"' + "".join(_WRITTEN.get(character, character) for character in value) + '"'


def edit(text: str, changes: Mapping[str, Secret | None], name: str) -> str:
    """The text with variables set, or removed where the value is None; comments, order and the rest stay.

    Of several assignments of one name the last, which counts, is changed; removing removes all.
    Raises UsageError for a bad line in the text, a wrong name, or a value that no environment can carry.
    """
    file = parse(text, name)
    newline = "\r\n" if "\r\n" in text else "\n"
    edits: list[tuple[int, int, str | None]] = []
    added: list[str] = []
    for key, secret in changes.items():
        present = file.variables.get(key)
        if secret is None:
            edits += [(*each.span, None) for each in file.assignments if each.name == key]
            continue
        value = _writable(key, secret)
        if present is None:
            added.append(f"{key}={quoted(value)}{newline}")
        elif present.value != secret:
            edits.append((*present.value_span, quoted(value)))
    for start, end, new in sorted(edits, key=lambda one: one[0], reverse=True):
        # A comment that follows a closing quote at once would become part of a bare value.
        glued = new is not None and _BARE.fullmatch(new) and text[end : end + 1] == "#"
        text = text[:start] + (f"'{new}'" if glued else new or "") + text[end:]
    if added and text.removeprefix("\ufeff") and not text.endswith("\n"):
        text = text.removesuffix("\r") + newline
    return text + "".join(added)


def _writable(key: str, secret: Secret) -> str:
    if not NAME.fullmatch(key):
        raise UsageError(
            f'"{key}" is not the name of a variable.',
            cure='Names are made of letters, digits and "_", and begin with no digit.',
        )
    value = secret.reveal()
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{key}: the value is not valid Unicode.", cure="Give it as UTF-8.") from None
    if "\0" in value:
        raise UsageError(f"{key}: the value holds a NUL byte.", cure="No environment can carry one.")
    return value


def write(path: Path, changes: Mapping[str, Secret | None]) -> bool:
    """Set or remove variables of a file, which becomes 0600; False when nothing was to be changed.

    The file is replaced in one step, so a reader sees the old or the new one, and made when it is not there.
    Raises UsageError as `edit` does, and when the file cannot be read or written.
    """
    path = path.resolve()  # a link stays a link
    try:
        before = decode(path.read_bytes(), str(path)) if path.exists() else None
        after = edit(before or "", changes, str(path))
        if after == before:
            return False
        files.replace(path, after.encode(), 0o600)
    except OSError as failed:
        raise UsageError(
            f"cannot be written: {failed.strerror}.",
            cure="Check the owner and mode of the file and of its directory.",
            where=str(path),
        ) from None
    return True
