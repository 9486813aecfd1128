"""Ignore files, trees and what of them belongs to the build context: data for unit tests and for the real Docker.

`sent` names the files and symlinks that BuildKit sends; directories are made for them. A test in the lab plants a
case, builds ``FROM scratch`` / ``COPY . /`` from it and compares.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

APP = (
    "app/main.py",
    "app/util/text.py",
    "app/util/text.pyc",
    "README.md",
    ".hidden",
    "docs/a.md",
    "docs/b.txt",
)


@dataclass(frozen=True)
class Case:
    """name: in a test's id. ignore: the content of .dockerignore. files: what lies there; "a -> b" is a symlink."""

    name: str
    ignore: bytes
    files: tuple[str, ...]
    sent: tuple[str, ...]


def _without(files: tuple[str, ...], *gone: str) -> tuple[str, ...]:
    assert set(gone) <= set(files)
    return tuple(file for file in files if file not in gone)


CASES = (
    Case("nothing is ignored", b"", APP, APP),
    Case("comments and empty lines", b"# README.md\n\n   \n#docs\n", APP, APP),
    Case("a comment begins in the first column", b" #x\n#y\n", ("#x", "#y", "z"), ("#y", "z")),
    Case("a byte order mark", b"\xef\xbb\xbfREADME.md\n", APP, _without(APP, "README.md")),
    Case("a byte order mark before a comment", b"\xef\xbb\xbf# x\n.hidden", APP, _without(APP, ".hidden")),
    Case("spaces around", b"  README.md \t\r\n", APP, _without(APP, "README.md")),
    Case("spaces within a name", b"two words.txt\n", ("two words.txt", "two"), ("two",)),
    Case("slashes around", b"/docs/\n/README.md", APP, _without(APP, "README.md", "docs/a.md", "docs/b.txt")),
    Case("a path to be cleaned", b"./docs/../docs//a.md\n", APP, _without(APP, "docs/a.md")),
    Case("outside the context", b"../README.md\n", APP, APP),
    Case("the context itself", b".\n/\n", APP, APP),
    Case("a directory with all it holds", b"app\n", APP, _without(APP, *APP[:3])),
    Case("a name lies at the root only", b"text.py\n", APP, APP),
    Case("one star stops at a slash", b"*.md\n", APP, _without(APP, "README.md")),
    Case("one star for one directory", b"*/*.md\n", APP, _without(APP, "docs/a.md")),
    Case("a star takes hidden names too", b"*\n", APP, ()),
    Case(
        "two stars in front",
        b"**/*.pyc\n**/*.md\n",
        APP,
        _without(APP, "app/util/text.pyc", "README.md", "docs/a.md"),
    ),
    Case("two stars without a slash", b"**text.py\n", APP, _without(APP, "app/util/text.py")),
    Case("two stars at the end", b"docs/**\n", APP, _without(APP, "docs/a.md", "docs/b.txt")),
    Case("two stars in the middle", b"app/**/text.py\n", APP, _without(APP, "app/util/text.py")),
    Case("two stars alone", b"**\n", APP, ()),
    Case("two stars, slash", b"**/\n", APP, ()),
    Case("two stars after a letter", b"a**/*.py\n", APP, _without(APP, "app/main.py", "app/util/text.py")),
    Case("a question mark", b"docs/?.md\n", APP, _without(APP, "docs/a.md")),
    Case("a question mark is one letter, not one byte", b"?.txt\n", ("é.txt", "éé.txt"), ("éé.txt",)),
    Case("a class", b"docs/[a-c].*\n", APP, _without(APP, "docs/a.md", "docs/b.txt")),
    Case("a class turned round", b"docs/[^a].*\n", APP, _without(APP, "docs/b.txt")),
    Case("an exclamation mark in a class is itself", b"[!a]\n", ("a", "b", "!"), ("b",)),
    Case("a class with a bracket escaped", b"[\\]x]y\n", ("]y", "xy", "zy"), ("zy",)),
    Case("a star in a class is no star", b"[*]\n", ("*", "]", "[]", "a", "]]"), ("*", "a", "]]")),
    Case("a bar beside a star parts two patterns", b"a|b*\n", ("ax", "xb1", "c|"), ("c|",)),
    Case("a bar without a star is itself", b"a|b\n", ("a|b", "a", "b"), ("a", "b")),
    Case("double braces are themselves", b"{{name}}/*\n", ("{{name}}/a", "name/a"), ("name/a",)),
    Case("an escaped star", b"a\\*b\n", ("a*b", "axb"), ("axb",)),
    Case("an escaped letter of no meaning", b"\\_a\n", ("_a", "a"), ("a",)),
    Case(
        "what is special to regular expressions",
        b"a.|)$(}+{bc\n",
        ("a.|)$(}+{bc", "aX|)$(}+{bc"),
        ("aX|)$(}+{bc",),
    ),
    Case("the same beside a star", b"a.+($)*\n", ("a.+($)x", "aa+($)x"), ("aa+($)x",)),
    Case("a dot is a dot", b"abc.def\n", ("abc.def", "abcxdef"), ("abcxdef",)),
    Case("an exception", b"*.md\n!README.md\n", APP, APP),
    Case("an exception before the rule", b"!README.md\n*.md\n", APP, _without(APP, "README.md")),
    Case("an exception within an ignored directory", b"docs\n!docs/a.md\n", APP, _without(APP, "docs/b.txt")),
    Case("an exception, spaces and slashes", b"docs/*\n ! /docs/a.md/ \n", APP, _without(APP, "docs/b.txt")),
    Case("everything but one directory", b"*\n!app\n", APP, APP[:3]),
    Case("everything but one directory, less one file", b"*\n!app\napp/util\n", APP, ("app/main.py",)),
    Case("everything but a deep pattern", b"**\n!**/*.py\n", APP, ("app/main.py", "app/util/text.py")),
    Case(
        "the last line that matches decides", b"*.md\n!README*\nREADME.md\n", APP, _without(APP, "README.md")
    ),
    Case("a double exclamation mark", b"*\n!!a\n", ("!a", "a"), ("!a",)),
    Case("an exception that appears by cleaning", b"*\n./!a\n", ("!a", "a"), ("a",)),
    Case(
        "an exception for a parent that was not ignored",
        b"docs/a.md\n!docs\n",
        APP,
        _without(APP, "docs/a.md"),
    ),
    Case("an exception for children", b"docs\n!docs/*\n", APP, APP),
    Case(
        "an exception below an exception",
        b"app\n!app/util\napp/util/*.pyc\n",
        APP,
        _without(APP, APP[0], APP[2]),
    ),
    Case(
        "a symlink is a name, not what it points at", b"link\n", ("link -> docs", "docs/a.md"), ("docs/a.md",)
    ),
    Case("a link to an ignored directory stays", b"docs\n", ("link -> docs", "docs/a.md"), ("link -> docs",)),
    Case("a name with a line break", b"a*b\n", ("a\nb", "c\nd"), ("c\nd",)),
    Case("two stars do not cross a line break", b"**/x?\n", ("a\nb/xy", "c/xy"), ("a\nb/xy",)),
    Case("a name that ends in a line break", b"a?\n*b\n", ("ab\n", "b\n", "a\n"), ("ab\n", "b\n")),
    Case("the ignore file names itself and the Dockerfile", b".dockerignore\nDockerfile\n", ("a",), ("a",)),
)

# Patterns that Docker refuses: the build ends with an error.
BAD = (
    "[",
    "a[",
    "[^",
    "[^bc",
    "[]a]",
    "[-]",
    "[x-]",
    "[-x]",
    "[a-b-c]",
    "\\",
    "a\\",
    "!",
    "! ",
    "!/",
    "[z-a]",
    "[Local-Only]/",
)


def plant(directory: Path, files: tuple[str, ...]) -> None:
    """Make the files of a case, each with its own name as content."""
    for file in files:
        name, _, target = file.partition(" -> ")
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if target:
            path.symlink_to(target)
        else:
            path.write_bytes(os.fsencode(name))
