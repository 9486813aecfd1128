"""The line of every key in a TOML text. The standard library's reader keeps no positions."""

from __future__ import annotations

import re
import tomllib

KeyPath = tuple[str, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)+")
_HEADER = re.compile(r"\[\[?((?:\"(?:\\.|[^\"\\\n])*\"|'[^'\n]*'|[^\]\"'\n])+)\]\]?[^\n]*")
_KEY = re.compile(r"((?:\"(?:\\.|[^\"\\\n])*\"|'[^'\n]*'|[^=\"'\n])+)=")
_VALUE_PART = re.compile(
    r"""
    \"{3} (?: \\. | [^\\] )*? \"{3} \"{0,2}   # a string of several lines
    | '{3} .*? '{3} '{0,2}
    | \" (?: \\. | [^"\\\n] )* \"
    | ' [^'\n]* '
    | \# [^\n]*
    | [\[{] | [\]}] | \n
    | [^"'\#\[\]{}\n]+
    """,
    re.VERBOSE | re.DOTALL,
)


def key_lines(text: str) -> dict[KeyPath, int]:
    """Line numbers from 1, by path; a table has the line of its header, or of the first key that opens it.

    `text` must be valid TOML (`tomllib.loads` accepted it). Keys inside an inline table have no line of their
    own: ask for the path of the key that holds the table (`line_of` does).
    """
    lines: dict[KeyPath, int] = {}
    table: KeyPath = ()
    position, line = 0, 1
    while position < len(text):
        if blank := _BLANK.match(text, position):
            line += blank[0].count("\n")
            position = blank.end()
            continue
        if header := _HEADER.match(text, position):
            table = _path(header[1])
            _record(lines, (), table, line)
            position = header.end()
            continue
        key = _KEY.match(text, position)
        if key is None:
            raise ValueError(f"line {line} is not TOML")
        _record(lines, table, _path(key[1]), line)
        end = _value_end(text, key.end())
        line += text.count("\n", position, end)
        position = end
    return lines


def line_of(lines: dict[KeyPath, int], path: KeyPath) -> int | None:
    """The line of the longest part of `path` that stands in the file; None when no part does."""
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return None


def _record(lines: dict[KeyPath, int], table: KeyPath, key: KeyPath, line: int) -> None:
    path = table + key
    for length in range(1, len(path)):
        lines.setdefault(path[:length], line)
    lines[path] = line


def _path(written: str) -> KeyPath:
    """`a."b.c"` as ("a", "b.c"): the standard library's reader knows the escapes, so it is asked."""
    found: object = tomllib.loads(f"{written}=0")
    path: list[str] = []
    while isinstance(found, dict):
        ((key, found),) = found.items()
        path.append(key)
    return tuple(path)


def _value_end(text: str, position: int) -> int:
    depth = 0
    while position < len(text):
        part = _VALUE_PART.match(text, position)
        if part is None:
            raise ValueError("not TOML")
        if part[0] in ("[", "{"):
            depth += 1
        elif part[0] in ("]", "}"):
            depth -= 1
        elif part[0] == "\n" and depth == 0:
            return position
        position = part.end()
    return position
