"""The rules of the house that a machine can check: which way imports run, file lengths, start-up."""

from __future__ import annotations

import ast
import functools
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "rehost"
FILES = sorted(SOURCE.rglob("*.py"))

CAPABILITIES = {"release", "edge", "watch", "backup", "cost", "source"}
MEANS = {"cloud", "machine", "project"}
# Which parts each part may import besides itself. The lab meets the rest on the wire, not here.
MAY_IMPORT: dict[str, set[str]] = {
    "cli": CAPABILITIES | MEANS | {"run", "lab"},
    **dict.fromkeys(CAPABILITIES, MEANS | {"run"}),
    **dict.fromkeys(MEANS, MEANS | {"run"}),
    "lab": {"run"},
    "run": set(),
}
# Capabilities don't import each other's insides, but one may show a face to the others: a release moves traffic
# by the proxy's own configuration, which is pure data made in edge/caddy.py.
FACES = {"rehost.edge.caddy"}
LONGEST = 400  # lines
HEAVY = {
    "asyncio",
    "asyncssh",
    "google",
    "httpx",
    "markdown_it",
    "pydantic",
    "rich",
    "starlette",
    "tomlkit",
    "yaml",
}


def names(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(SOURCE)) for path in paths]


def part_of(path: Path) -> str:
    """The part a file belongs to; "" for the package's own top files."""
    parts = path.relative_to(SOURCE).parts
    return parts[0] if len(parts) > 1 else ""


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def statements(inside: ast.AST) -> Iterator[ast.AST]:
    """All statements in it, however deep: a tenth of what `ast.walk` goes through."""
    for block in ("body", "orelse", "finalbody", "handlers", "cases"):
        for one in getattr(inside, block, ()):
            yield one
            yield from statements(one)


def imported(nodes: Iterable[ast.AST]) -> Iterator[tuple[int, str]]:
    """Line and part of every import of rehost, wherever in the file it stands, but for the faces."""
    for node in nodes:
        modules: list[str] = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import; write where it comes from"
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
        for module in modules:
            top, _, rest = module.partition(".")
            part = rest.partition(".")[0]
            face = any(module == name or module.startswith(f"{name}.") for name in FACES)
            if top == "rehost" and part and (SOURCE / part).is_dir() and not face:
                yield getattr(node, "lineno", 0), part


def test_every_part_is_known() -> None:
    assert {part_of(path) for path in FILES} - {""} <= set(MAY_IMPORT)
    assert len(FILES) > 10


def test_imports_run_downwards() -> None:
    wrong = []
    for path in FILES:
        part = part_of(path)
        allowed = MAY_IMPORT[part] | {part} if part else {"cli"}  # __main__ starts the command line
        for line, other in imported(statements(parsed(path))):
            if other not in allowed:
                wrong.append(f"{path.relative_to(SOURCE)}:{line}: {part} may not import {other}")
    assert wrong == []


def conditions(nodes: Iterable[ast.AST]) -> Iterator[ast.expr]:
    for node in nodes:
        match node:
            case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test) | ast.Assert(test=test):
                yield test
            case ast.Match(subject=subject):
                yield subject
            case ast.comprehension(ifs=ifs):
                yield from ifs


def speaks_of_the_lab(condition: ast.expr) -> bool:
    words: list[str] = []
    for node in ast.walk(condition):
        match node:
            case ast.Name(id=word) | ast.Attribute(attr=word) | ast.Constant(value=str(word)):
                words.extend(word.lower().replace("-", "_").split("_"))
    return "lab" in words


OUTSIDE = [path for path in FILES if part_of(path) in CAPABILITIES | MEANS | {"run"}]


def test_nothing_asks_whether_it_is_in_the_lab() -> None:
    asked = [
        f"{path.relative_to(SOURCE)}:{condition.lineno}"
        for path in OUTSIDE
        if "lab" in path.read_text().lower()
        for condition in conditions(ast.walk(parsed(path)))
        if speaks_of_the_lab(condition)
    ]
    assert asked == []


@pytest.mark.parametrize(
    ("text", "found"), [("if in_lab: pass", True), ("x = 1 if place == 'lab' else 2", True)]
)
def test_the_search_for_if_lab_finds_it(text: str, found: bool) -> None:
    assert any(map(speaks_of_the_lab, conditions(ast.walk(ast.parse(text))))) is found


def test_the_search_for_if_lab_knows_other_words() -> None:
    assert not any(map(speaks_of_the_lab, conditions(ast.walk(ast.parse("if label or 'labels' in x: pass")))))


def test_no_file_has_two_jobs() -> None:
    long = {name: len(path.read_text().splitlines()) for name, path in zip(names(FILES), FILES, strict=True)}
    assert {name: lines for name, lines in long.items() if lines > LONGEST} == {}, "what are their two jobs?"


@pytest.mark.parametrize("typed", [["--help"], ["--version"], ["completion", "bash"]])
def test_the_first_answer_imports_nothing_heavy(typed: list[str]) -> None:
    program = (
        "import json, sys\n"
        "from rehost.cli.main import root\n"
        "root.main(json.loads(sys.argv[1]), standalone_mode=False)\n"
        "print('\\n' + json.dumps(sorted(sys.modules)))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, json.dumps(typed)],
        env={"PYTHONPATH": str(SOURCE.parent), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(json.loads(ran.stdout.splitlines()[-1]))
    assert "rehost.cli.main" in loaded
    assert HEAVY & loaded == set()
    assert {module for module in loaded if module.startswith("rehost")} == {
        "rehost",
        "rehost.cli",
        "rehost.cli.main",
    }
