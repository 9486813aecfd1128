"""The variables that Python code reads, by its syntax tree: `os.environ`, `os.getenv`, and the settings classes
of pydantic-settings, python-decouple, django-environ and starlette.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from rehost.source import contract_settings
from rehost.source.contract_use import Need, Use

# A file without any of these words reads no variable in a way that is known here.
READERS = (b"environ", b"getenv", b"decouple", b"starlette.config")
MARKS = (*READERS, b"Settings")
_RAISING = ("KeyError", "LookupError", "Exception", "BaseException")
# Without a value these raise: int(None), json.loads(None).
_PICKY_CALLS = ("int", "float", "json.loads")
_READERS = ("environ.Env", "environ.FileAwareEnv", "Env", "environs.Env", "Config", "starlette.config.Config")


# Parsing and reading so much takes about a second; an app that reads its environment in more places is rare.
MOST_PARSED = 2**20


class Reading(NamedTuple):
    """What the Python files say together. given: names that the code itself sets. left: files not looked into."""

    uses: list[Use]
    given: set[str]
    left: int


def read(files: Mapping[str, bytes]) -> Reading:
    """The uses in files that are Python. A file that is none, or of another Python, says nothing."""
    uses: list[Use] = []
    given: set[str] = set()
    classes: list[contract_settings.Class] = []
    parsed = left = 0
    marked = [(path, text) for path, text in files.items() if any(mark in text for mark in MARKS)]
    # Settings classes and what lies near the top say most.
    for path, text in sorted(marked, key=lambda each: (b"BaseSettings" not in each[1], each[0].count("/"))):
        parsed += len(text)
        if parsed > MOST_PARSED:
            left += 1
            continue
        try:
            with warnings.catch_warnings():  # about the file, which are its owner's
                warnings.simplefilter("ignore")
                tree = ast.parse(text)
            if any(mark in text for mark in READERS):
                reader = _File(path, tree, text)
                uses += reader.uses()
                given |= reader.given
            if b"Settings" in text:
                classes += contract_settings.classes(path, tree)
        except (SyntaxError, ValueError, RecursionError, MemoryError):  # the last two: nested too deep
            continue
    uses += contract_settings.fields(classes)
    return Reading(uses, given, left)


# -- os.environ and the readers of other packages ---------------------------------------------------------------


_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def _reads(stands: str) -> bool:
    """Whether a name that stands for this may read the environment."""
    return stands in ("(reader)", "decouple.config", *_READERS) or stands.startswith("os.")


class _File:
    """One file. Names that it gives to os, environ and the readers are followed."""

    def __init__(self, path: str, tree: ast.Module, text: bytes) -> None:
        self.path = path
        self.given: set[str] = set()
        self._above: dict[ast.AST, ast.AST] = {}
        self._nodes: list[ast.AST] = []
        self._called: dict[str, str] = {}  # a name of this file -> what it stands for
        defined = self._walk(tree, _DEFINITIONS)
        self._name_all()
        words = (*READERS, *(name.encode() for name, stands in self._called.items() if _reads(stands)))
        lines = text.splitlines(keepends=True)
        for node in defined:  # most functions have nothing to do with the environment
            body = b"".join(lines[node.lineno - 1 : node.end_lineno])
            if any(word in body for word in words):
                self._walk(node, ())
        self._name_all()
        self._asked = {
            node.left.value
            for node in self._nodes
            if isinstance(node, ast.Compare)
            and isinstance(node.ops[0], ast.In | ast.NotIn)
            and isinstance(node.left, ast.Constant)
            and isinstance(node.left.value, str)
            and self._name(node.comparators[0]) == "os.environ"
        }

    def _walk(self, top: ast.AST, but: tuple[type[ast.AST], ...]) -> list[Any]:
        """Takes in what is below a node, and hands back what it leaves out: the topmost nodes of some kinds."""
        left: list[ast.AST] = []
        ahead = [top]
        while ahead:  # ast.walk and ast.iter_child_nodes take several times as long
            node = ahead.pop()
            self._nodes.append(node)
            for value in vars(node).values():
                for child in value if value.__class__ is list else (value,):
                    if isinstance(child, ast.AST) and not isinstance(child, ast.expr_context | ast.operator):
                        self._above[child] = node
                        (left if isinstance(child, but) else ahead).append(child)
        return left

    def _name_all(self) -> None:
        """What the names of imports, and of readers that are made here, stand for."""
        for node in self._nodes:
            if isinstance(node, ast.Import):
                self._called.update({each.asname: each.name for each in node.names if each.asname})
            elif isinstance(node, ast.ImportFrom) and node.module:
                self._called.update(
                    {each.asname or each.name: f"{node.module}.{each.name}" for each in node.names}
                )
        for node in self._nodes:
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
                made = self._name(node.value.func)
                if made in _READERS or made.rpartition(".")[2] in ("Env", "FileAwareEnv"):
                    self._called.update(
                        {each.id: "(reader)" for each in node.targets if isinstance(each, ast.Name)}
                    )

    def uses(self) -> Iterator[Use]:
        for node in self._nodes:
            if isinstance(node, ast.Subscript) and self._name(node.value) == "os.environ":
                yield from self._subscript(node)
            elif isinstance(node, ast.Call):
                yield from self._call(node)
        for name in self._asked:
            yield Use(name, self.path, 0, "optional", "")

    def _name(self, node: ast.AST) -> str:
        """`os.environ` for `environ`, `o.environ` and the like; "" for what is no name."""
        if isinstance(node, ast.Name):
            return self._called.get(node.id, node.id)
        if isinstance(node, ast.Attribute):
            return f"{self._name(node.value)}.{node.attr}"
        return ""

    def _subscript(self, node: ast.Subscript) -> Iterator[Use]:
        name = node.slice.value if isinstance(node.slice, ast.Constant) else None
        if not isinstance(name, str):
            return
        if isinstance(node.ctx, ast.Store):
            self.given.add(name)
        elif isinstance(node.ctx, ast.Load):
            guarded = name in self._asked or self._caught(node)
            need: Need = "optional" if guarded else "demanded"
            yield Use(name, self.path, node.lineno, need, f'os.environ["{name}"]')

    def _call(self, node: ast.Call) -> Iterator[Use]:
        called = self._name(node.func)
        first = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else None
        if not isinstance(first, str):
            return
        fallback = len(node.args) > 1 and not _is_none(node.args[1])
        fallback = fallback or any(
            each.arg == "default" and not _is_none(each.value) for each in node.keywords
        )
        if called in ("os.environ.get", "os.getenv"):
            need = "optional" if fallback else self._without_default(node)
            yield Use(first, self.path, node.lineno, need, f'{called}("{first}")')
        elif called == "os.environ.setdefault":
            self.given.add(first)
        elif called in ("decouple.config", "(reader)") or called.startswith("(reader)."):
            method = called.partition(".")[2]
            if method in ("read_env", "prefixed", "seal") or not first.isidentifier():
                return
            # Here a default of None is one as well.
            fallback = called != "decouple.config" and len(node.args) > 1 and method != ""
            fallback = fallback or any(each.arg == "default" for each in node.keywords)
            need = "optional" if fallback or self._caught(node) else "demanded"
            yield Use(first, self.path, node.lineno, need, f'{ast.unparse(node.func)}("{first}")')

    def _without_default(self, node: ast.Call) -> Need:
        above = self._above.get(node)
        if isinstance(above, ast.BoolOp):
            return "optional"  # `... or "default"`, `... and ...`
        if isinstance(above, ast.UnaryOp | ast.Compare | ast.If | ast.IfExp | ast.While | ast.Assert):
            return "demanded" if _refuses(above) else "optional"
        if isinstance(above, ast.Call) and node in above.args and self._name(above.func) in _PICKY_CALLS:
            return "demanded"
        if isinstance(above, ast.Call) and self._name(above.func) == "bool":
            return "optional"
        named = above.target if isinstance(above, ast.NamedExpr) else None
        if isinstance(above, ast.Assign) and len(above.targets) == 1:
            named = above.targets[0]  # type: ignore[assignment]
        if isinstance(above, ast.AnnAssign):
            named = above.target  # type: ignore[assignment]
        if isinstance(named, ast.Name):
            return self._of_name(named.id)
        return "read"

    def _of_name(self, name: str) -> Need:
        """What becomes of a name that holds the value, or None."""
        for node in self._nodes:
            if isinstance(node, ast.If | ast.Assert) and _asks_for(node.test, name):
                return "demanded" if _refuses(node) else "optional"
        return "read"

    def _caught(self, node: ast.AST) -> bool:
        """Whether a KeyError of this place is caught."""
        below: ast.AST = node
        while (above := self._above.get(below)) is not None:
            if isinstance(above, ast.Try) and below in above.body:
                for handler in above.handlers:
                    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
                    caught = any(kind is None or self._name(kind) in _RAISING for kind in kinds)
                    if caught and not any(isinstance(each, ast.Raise) for each in ast.walk(handler)):
                        return True
            below = above
        return False


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _asks_for(test: ast.expr, name: str) -> bool:
    return any(isinstance(node, ast.Name) and node.id == name for node in ast.walk(test))


def _refuses(node: ast.AST) -> bool:
    """`if not value: raise ...`, `if value is None: sys.exit(...)`, `assert value`."""
    if isinstance(node, ast.Assert):
        return True
    if not isinstance(node, ast.If):
        return False
    test = node.test
    negated = isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)
    absent = (
        isinstance(test, ast.Compare) and isinstance(test.ops[0], ast.Is) and _is_none(test.comparators[0])
    )
    return (negated or absent) and any(
        isinstance(each, ast.Raise)
        or (isinstance(each, ast.Call) and ast.unparse(each.func) in ("sys.exit", "exit", "quit", "os._exit"))
        for statement in node.body
        for each in ast.walk(statement)
    )
