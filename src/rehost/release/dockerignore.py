r"""`.dockerignore` as Docker reads it, so that what travels is what ``docker build`` would have sent.

The rules are those of Docker's own parts: the reader and the patterns of ``moby/patternmatcher``
(``ignorefile/ignorefile.go``, ``patternmatcher.go``), Go's ``path/filepath`` (``Clean``, ``Match``) and the
walk of BuildKit (``tonistiigi/fsutil``, ``filter.go``):

- ``#`` starts a comment in the first column only. A byte order mark is skipped. Lines are trimmed and
  cleaned: ``/a/``, ``./a`` and ``a/b/..`` all mean ``a``.
- ``*`` and ``?`` don't cross a ``/``, ``**`` does, ``[a-z]`` and ``[^a-z]`` are classes, ``\`` escapes.
- ``!`` makes an exception. The last line that matches a path decides.
- A line that matches a directory matches everything below it.

Docker turns a pattern into a Go regular expression without looking into its brackets, and does not escape
``^|{}``, which has odd results (``[*]`` is not a literal star). They are kept: the expression is built as
Docker builds it, then translated. Two things are refused here that Docker reads or passes over: a backslash
before a letter or digit that Go takes for a number, a Unicode class or a quotation (``\x41``, ``\101``, ``\pL``,
``\Q``; nobody means that in a name), and a bad pattern that no path happens to be compared with.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from rehost.run.errors import UsageError

NAME = ".dockerignore"
# Go's reader of lines (bufio.Scanner) gives up on a longer one, and the build with it.
LONGEST_LINE = 64 * 1024
# unicode.IsSpace of Go. str.strip() without an argument would also take U+001C to U+001F.
_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))

Marks = tuple[bool, ...]
"""Which patterns matched a directory; its children inherit them. Empty for the context's root."""


class _BadPatternError(Exception):
    """Why a pattern cannot be read; the caller adds file and line."""


class Pattern(NamedTuple):
    """One line. `text` is the cleaned pattern without its ``!``."""

    text: str
    exception: bool
    matches: Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Ignore:
    """The patterns of one ignore file, in order."""

    patterns: tuple[Pattern, ...] = ()

    def judge(self, path: str, parent: Marks = ()) -> tuple[bool, Marks]:
        """Whether `path` (relative to the context, with ``/``) is ignored, and the marks for its children.

        parent: the marks of the directory that holds it. As in BuildKit, an exception is only tried while the
        path is ignored and a plain pattern only while it is not, and what was not tried is not inherited.
        """
        ignored = False
        marks = []
        for index, pattern in enumerate(self.patterns):
            mark = bool(parent) and parent[index]
            if not mark and pattern.exception == ignored:
                mark = pattern.matches(path)
            marks.append(mark)
            if mark:
                ignored = not pattern.exception
        return ignored, tuple(marks)

    def ignores(self, path: str) -> bool:
        """Whether `path` is ignored, walking down from the context's root."""
        ignored, at = False, ""
        marks: Marks = ()
        for part in path.split("/"):
            at = f"{at}/{part}" if at else part
            ignored, marks = self.judge(at, marks)
        return ignored

    def may_take_back(self, directory: str) -> bool:
        """Whether an exception could match something below the ignored `directory`: it must be walked."""
        inside = directory + "/"
        for pattern in self.patterns:
            if pattern.exception:
                start = pattern.text.removesuffix("/**").removesuffix("/*")
                if any(char in start for char in "*[]?^\\") or f"{start}/".startswith(inside):
                    return True
        return False

    def excepts(self, name: str) -> bool:
        """Whether an exception names `name` itself, or something below it, literally."""
        return any(p.exception and f"{p.text}/".startswith(f"{name}/") for p in self.patterns)


def find(context: Path, dockerfile: Path) -> Path | None:
    """The ignore file that counts: ``<Dockerfile>.dockerignore`` beside the Dockerfile, else the context's"""
    for candidate in (dockerfile.with_name(dockerfile.name + NAME), context / NAME):
        if candidate.is_file():
            return candidate
    return None


def parse(content: bytes, file: str = NAME) -> Ignore:
    """Read an ignore file; `file` is its name in error messages.

    Raises UsageError, with file and line, for a pattern that Docker could not read either.
    """
    patterns = []
    for number, raw in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        line = raw.removesuffix(b"\r").decode("utf-8", "surrogateescape")
        try:
            pattern = _pattern(_cleaned_line(line))
        except _BadPatternError as bad:
            raise UsageError(
                f"Docker cannot read the pattern {line.strip(_SPACE)[:80]!r}: {bad}.",
                where=f"{file}:{number}",
                cure="Correct or remove the line.",
            ) from bad
        if pattern:
            patterns.append(pattern)
    return Ignore(tuple(patterns))


def _cleaned_line(line: str) -> str:
    """What Docker's reader makes of a line; empty for a comment."""
    if len(line.encode("utf-8", "surrogateescape")) >= LONGEST_LINE:
        raise _BadPatternError(f"it is longer than {LONGEST_LINE - 1} bytes")
    if line.startswith("#"):
        return ""
    line = line.strip(_SPACE)
    if not line:
        return ""
    exception = line.startswith("!")
    if exception:
        line = line[1:].strip(_SPACE)
    if line:
        line = _clean(line)
        if len(line) > 1:
            line = line.removeprefix("/")
    return f"!{line}" if exception else line


def _clean(path: str) -> str:
    """filepath.Clean of Go. POSIX gives two leading slashes a meaning of their own; Go does not."""
    cleaned = posixpath.normpath(path)
    return cleaned[1:] if cleaned.startswith("//") else cleaned


def _pattern(text: str) -> Pattern | None:
    # Trimmed and cleaned a second time, as Docker does: "./!a" becomes an exception only here.
    text = text.strip(_SPACE)
    if not text:
        return None
    text = _clean(text)
    exception = text.startswith("!")
    if exception:
        text = text[1:]
        if not text:
            raise _BadPatternError('"!" stands alone, without the path that is to be kept')
    _check(text)
    return Pattern(text, exception, _matcher(text))


def _check(pattern: str) -> None:
    """The syntax check of Go's filepath.Match. Raises _BadPatternError."""
    at, end = 0, len(pattern)

    def one_of_class(at: int) -> int:
        if at < end and pattern[at] in "-]":
            raise _BadPatternError(f'"{pattern[at]}" in a [class] needs a \\ before it')
        if at < end and pattern[at] == "\\":
            at += 1
        if at + 1 >= end:
            raise _BadPatternError('a "[" is never closed')
        if "\udc80" <= pattern[at] <= "\udcff":
            raise _BadPatternError("a [class] holds bytes that are not UTF-8")
        return at + 1

    while at < end:
        char = pattern[at]
        at += 1
        if char == "\\":
            if at == end:
                raise _BadPatternError("it ends in a single \\")
            at += 1
        elif char == "[":
            at += pattern[at : at + 1] == "^"
            at = one_of_class(at)
            while True:
                if pattern[at] == "-":
                    at = one_of_class(at + 1)
                if pattern[at] == "]":
                    at += 1
                    break
                at = one_of_class(at)


def _matcher(pattern: str) -> Callable[[str], bool]:
    """How Docker matches: by comparing text where it can, else by a regular expression."""
    expression, how = _go_expression(pattern)
    if how == "exact":
        return pattern.__eq__
    if how == "prefix":
        start = pattern[:-2]
        return lambda path: path.startswith(start)
    if how == "suffix":
        tail = pattern[2:]
        return lambda path: path.endswith(tail) or (tail[:1] == "/" and path == tail[1:])
    # "**/**/" says no more than "**/"; told apart they would be tried in every combination.
    while "(.*/)?(.*/)?" in expression:
        expression = expression.replace("(.*/)?(.*/)?", "(.*/)?")
    try:
        compiled = re.compile(_python_expression(expression))
    except (re.error, IndexError) as error:  # IndexError: the expression ends inside a class
        raise _BadPatternError("Docker makes a regular expression of it that cannot be read") from error
    return lambda path: compiled.search(path) is not None


def _go_expression(pattern: str) -> tuple[str, str]:
    """The regular expression that Docker makes of a pattern, and whether it uses it or compares text."""
    out, how, at, step = ["^"], "exact", 0, 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*" and pattern[at : at + 1] == "*":
            at += 1
            at += pattern[at : at + 1] == "/"
            if at < len(pattern):
                out.append("(.*/)?")
                how = "expression"
            elif how == "exact":
                how = "prefix"
            else:
                out.append(".*")
                how = "expression"
            if step == 0:
                how = "suffix"
        elif char in "*?":
            out.append("[^/]*" if char == "*" else "[^/]")
            how = "expression"
        elif char in ".+()$":
            out.append("\\" + char)
        elif char == "\\":
            out.append("\\" + pattern[at])
            at += 1
            how = "expression"
        else:
            out.append(char)
            if char in "[]":
                how = "expression"
        step += 1
    return "".join(out) + "$", how


# How often, as in "a{2,3}": braces are not escaped by Docker either.
_COUNTED = re.compile(r"\{(0|[1-9][0-9]*)(?:,(0|[1-9][0-9]*)?)?\}")
_CONTROL = {"a": "\a", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_SETS = {"d": "0-9", "s": r"\t\n\f\r ", "w": "0-9A-Za-z_"}
_POSITIONS = {"A": r"\A", "z": r"\Z", "b": r"(?a:\b)", "B": r"(?a:\B)"}
_POSIX_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "ascii": r"\x00-\x7f",
    "blank": r"\t ",
    "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": r"!-/:-@\[-`{-~",
    "space": r"\t\n\v\f\r ",
    "upper": "A-Z",
    "word": "0-9A-Za-z_",
    "xdigit": "0-9A-Fa-f",
}


def _python_expression(go: str) -> str:
    """The same in Python's dialect. Raises _BadPatternError where Go would not compile it."""
    out, at = [], 0
    while at < len(go):
        char = go[at]
        if char == "[":
            piece, at = _python_class(go, at + 1)
        elif char == "\\" and go[at + 1] in _POSITIONS:
            piece, at = _POSITIONS[go[at + 1]], at + 2
        elif char == "\\" and go[at + 1].lower() in _SETS:
            piece, at = f"[{'^' * go[at + 1].isupper()}{_SETS[go[at + 1].lower()]}]", at + 2
        elif char == "\\":
            literal, at = _escaped(go, at)
            piece = re.escape(literal)
        elif char == "{" and (counted := _COUNTED.match(go, at)):
            if any(int(number) > 1000 for number in counted.groups() if number):
                raise _BadPatternError(f'"{counted[0]}" asks for too many')
            piece, at = counted[0], counted.end()
        else:
            # What is special and not escaped was put there by Docker, save "^" and "|", which it forgets to escape.
            piece = {"^": r"(?:\A)", "$": r"\Z"}.get(char, char if char in ".()*?|" else re.escape(char))
            at += 1
        out.append(piece)
    return "".join(out)


def _escaped(go: str, at: int) -> tuple[str, int]:
    """The character that the backslash at `at` stands for, and where to go on."""
    char = go[at + 1]
    if char in _CONTROL:
        return _CONTROL[char], at + 2
    if char.isascii() and not char.isalnum():
        return char, at + 2
    raise _BadPatternError(f'"\\{char}" means nothing; directories are parted by "/"')


def _python_class(go: str, at: int) -> tuple[str, int]:
    """The class whose inside begins at `at`, by the rules of Go's regexp/syntax."""
    out = ["["]
    if go[at] == "^":
        out.append("^")
        at += 1
    first = True
    while go[at] != "]" or first:
        first = False
        if go.startswith("[:", at) and (end := go.find(":]", at + 2)) > 0:
            name = go[at + 2 : end]
            inside = _POSIX_CLASSES.get(name.removeprefix("^"))
            if inside is None:
                raise _BadPatternError(f"[:{name}:] is no class of characters")
            out.append(_complement(inside) if name.startswith("^") else inside)
            at = end + 2
            continue
        if go[at] == "\\" and go[at + 1].lower() in _SETS:
            inside = _SETS[go[at + 1].lower()]
            out.append(_complement(inside) if go[at + 1].isupper() else inside)
            at += 2
            continue
        low, at = _escaped(go, at) if go[at] == "\\" else (go[at], at + 1)
        high = low
        if go[at] == "-" and go[at + 1] != "]":
            high, at = _escaped(go, at + 1) if go[at + 1] == "\\" else (go[at + 1], at + 2)
        if high < low:
            raise _BadPatternError(f'the range "{low}-{high}" runs backwards')
        out.append(f"\\U{ord(low):08x}-\\U{ord(high):08x}")
    return "".join(out) + "]", at + 1


def _complement(inside: str) -> str:
    """The inside of a class that holds what `inside`, a set of ASCII characters, does not."""
    held = re.compile(f"[{inside}]")
    others = [f"\\x{code:02x}" for code in range(128) if not held.match(chr(code))]
    return "".join(others) + "\\x80-\\U0010ffff"
