"""The variables that classes of pydantic-settings demand: their fields, with prefix, aliases and nested models."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from rehost.source.contract_use import Need, Use

_DEEPEST = 4  # a model in a model in a model ...


class Class(NamedTuple):
    """A class. own: what its configuration says, by key; fields: annotated names with their values."""

    name: str
    bases: tuple[str, ...]
    path: str
    own: dict[str, object]
    fields: tuple[ast.AnnAssign, ...]
    special: bool


def classes(path: str, tree: ast.Module) -> Iterator[Class]:
    """All classes of a file: models that a settings class holds are wanted too."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef):
            continue
        own: dict[str, object] = {}
        fields: list[ast.AnnAssign] = []
        special = False
        for each in node.body:
            target = each.targets[0] if isinstance(each, ast.Assign) else None
            if isinstance(target, ast.Name) and target.id == "model_config" and isinstance(each, ast.Assign):
                own |= _constants(each.value)
            elif isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
                if each.target.id == "model_config" and each.value is not None:
                    own |= _constants(each.value)
                elif "ClassVar" not in ast.unparse(each.annotation) and not each.target.id.startswith("_"):
                    fields.append(each)
            elif isinstance(each, ast.ClassDef) and each.name == "Config":
                own |= {
                    inner.targets[0].id: inner.value.value
                    for inner in each.body
                    if isinstance(inner, ast.Assign)
                    and isinstance(inner.targets[0], ast.Name)
                    and isinstance(inner.value, ast.Constant)
                }
            elif isinstance(each, ast.FunctionDef) and "customise_sources" in each.name:
                special = True
        bases = tuple(ast.unparse(base).rpartition(".")[2].partition("[")[0] for base in node.bases)
        yield Class(node.name, bases, path, own, tuple(fields), special)


def _constants(value: ast.expr) -> dict[str, object]:
    """`SettingsConfigDict(a=1)`, `dict(a=1)` and `{"a": 1}` as far as their values are written out."""
    if isinstance(value, ast.Call):
        pairs = [(each.arg, each.value) for each in value.keywords]
    elif isinstance(value, ast.Dict):
        pairs = [
            (key.value, item)
            for key, item in zip(value.keys, value.values, strict=True)
            if isinstance(key, ast.Constant) and isinstance(key.value, str)
        ]
    else:
        return {}
    return {key: item.value if isinstance(item, ast.Constant) else True for key, item in pairs if key}


def fields(found_classes: list[Class]) -> Iterator[Use]:
    """The uses that the fields of all settings classes are."""
    by_name = {each.name: each for each in reversed(found_classes)}
    # Fields of a class that others are made of are told of with those.
    bases = {base for each in found_classes for base in each.bases}
    for found in found_classes:
        line = _lineage(found, by_name) if found.name not in bases else None
        if line is None:
            continue
        config: dict[str, object] = {}
        special = False
        for each in reversed(line):
            config |= each.own
            special = special or each.special
        # Values may come from elsewhere too: then the environment alone says nothing for sure.
        elsewhere = special or "secrets_dir" in config
        for each in line:
            for field in each.fields:
                yield from _field(field, each, config, by_name, elsewhere=elsewhere)


def _lineage(found: Class, classes: Mapping[str, Class]) -> list[Class] | None:
    """The class and its ancestors, nearest first; None when it is no settings class."""
    line: list[Class] = []
    ahead, settings = [found], False
    while ahead:
        each = ahead.pop(0)
        if each in line:
            continue
        line.append(each)
        settings = settings or "BaseSettings" in each.bases
        ahead += [classes[base] for base in each.bases if base in classes]
    return line if settings else None


def _field(
    field: ast.AnnAssign,
    of: Class,
    config: Mapping[str, object],
    classes: Mapping[str, Class],
    *,
    elsewhere: bool,
) -> Iterator[Use]:
    names, required = _read(field)
    if not names:
        names = [f"{config.get('env_prefix') or ''}{_name(field)}"]
    written = config.get("case_sensitive") is True
    names = names if written else [name.upper() for name in names]
    need: Need = ("read" if elsewhere else "demanded") if required else "optional"
    delimiter = config.get("env_nested_delimiter")
    how = f"{of.name}.{_name(field)}"
    if isinstance(delimiter, str) and required:
        inner = _inside(field, names[0], delimiter, classes, _DEEPEST)
        for name, place, model in inner:
            # The whole of it may be given as JSON as well.
            shown = name if written else name.upper()
            yield Use(
                shown, model.path, place.lineno, need, f"{model.name}.{_name(place)}", others=tuple(names)
            )
        if inner:
            return
    prefix = f"{names[0]}{delimiter}" if isinstance(delimiter, str) else ""
    yield Use(names[0], of.path, field.lineno, need, how, others=tuple(names[1:]), prefix=prefix)


def _inside(
    field: ast.AnnAssign, name: str, delimiter: str, classes: Mapping[str, Class], deepest: int
) -> list[tuple[str, ast.AnnAssign, Class]]:
    """The variables that the required fields of a model are, which the field holds; none where it may be None."""
    kinds = {each.id for each in ast.walk(field.annotation) if isinstance(each, ast.Name)}
    model = next((classes[kind] for kind in sorted(kinds) if kind in classes), None)
    may_be_none = "Optional" in kinds or any(_is_none(each) for each in ast.walk(field.annotation))
    if model is None or may_be_none or _lineage(model, classes) is not None or not deepest:
        return []
    found: list[tuple[str, ast.AnnAssign, Class]] = []
    for each in model.fields:
        names, required = _read(each)
        if required:
            inner = f"{name}{delimiter}{names[0] if names else _name(each)}"
            found += _inside(each, inner, delimiter, classes, deepest - 1) or [(inner, each, model)]
    return found


def _name(field: ast.AnnAssign) -> str:
    assert isinstance(field.target, ast.Name)  # noqa: S101  # `classes` takes no other
    return field.target.id


def _read(field: ast.AnnAssign) -> tuple[list[str], bool]:
    """The aliases of a field, and whether it must be given."""
    calls = [
        each
        for each in (*ast.walk(field.annotation), field.value)
        if isinstance(each, ast.Call) and ast.unparse(each.func).rpartition(".")[2] == "Field"
    ]
    names: list[str] = []
    required = field.value is None
    for call in calls:
        keys = {each.arg: each.value for each in call.keywords}
        for key in ("validation_alias", "alias", "env"):
            if key in keys and not names:
                names = [
                    each.value
                    for each in ast.walk(keys[key])
                    if isinstance(each, ast.Constant) and isinstance(each.value, str)
                ]
        given = keys.get("default", call.args[0] if call.args else None)
        has_default = "default_factory" in keys or (given is not None and not _is_ellipsis(given))
        if call is field.value:
            required = not has_default
        elif has_default:
            required = False
    if field.value is not None and _is_ellipsis(field.value):
        required = True
    return names, required


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _is_ellipsis(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is ...
