"""Reads a table of rehost.toml into a named tuple whose annotations say what each key may hold.

An annotation `Annotated[type, kind]` is a key (see `values`); a field without a kind is not one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Annotated, Any, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

from rehost.project import mistakes
from rehost.project.mistakes import Fault, Tables
from rehost.project.toml_lines import KeyPath
from rehost.project.values import Inside, Kind, strange

Table = TypeVar("Table", bound=NamedTuple)


def kind_of(annotation: object) -> Kind[Any] | None:
    """The kind in an annotation, "or None" set aside."""
    if get_origin(annotation) is Annotated:
        found: Kind[Any] = get_args(annotation)[1]
        return found
    # `X | None` of an annotated type is a union whose first part it is.
    return next((kind for part in get_args(annotation) if (kind := kind_of(part))), None)


@cache
def kinds(model: type[NamedTuple]) -> Mapping[str, Kind[Any]]:
    """What each key of a table may hold. Evaluates the annotations, once for each model."""
    hints = get_type_hints(model, include_extras=True)
    return {name: kind for name in model._fields if (kind := kind_of(hints[name]))}


def read(
    model: type[Table], data: object, path: KeyPath, tables: Tables, faults: list[Fault]
) -> Table | None:
    """The table, or None with at least one fault more. path: where it stands; tables: the keys that others know."""
    if not isinstance(data, Mapping):
        faults.append(mistakes.wrong(path, str(strange(data, "a table"))))
        return None
    before = len(faults)
    known = kinds(model)
    found: dict[str, object] = {}
    for name, value in data.items():
        if name not in known:
            faults.append(mistakes.unknown((*path, name), known, tables))
            continue
        try:
            found[name] = known[name](value)
        except Inside as wrong:
            faults += [mistakes.wrong((*path, name, inner), said) for inner, said in wrong.found.items()]
        except ValueError as wrong:
            faults.append(mistakes.wrong((*path, name), str(wrong)))
    faults += [mistakes.missing((*path, name)) for name in _needed(model, known) if name not in data]
    make: Callable[..., Table] = model
    return make(**found) if len(faults) == before else None


def read_each(
    model: type[Table], name: Kind[str], data: object, path: KeyPath, tables: Tables, faults: list[Fault]
) -> dict[str, Table]:
    """Tables by name, as under [processes]: `name` says what one may look like. Those without a fault."""
    if not isinstance(data, Mapping):
        faults.append(mistakes.wrong(path, str(strange(data, "a table for each name"))))
        return {}
    found: dict[str, Table] = {}
    for each, value in data.items():
        try:
            name(each)
        except ValueError as wrong:
            faults.append(mistakes.wrong((*path, each), str(wrong)))
        if (one := read(model, value, (*path, each), tables, faults)) is not None:
            found[each] = one
    return found


def _needed(model: type[NamedTuple], known: Mapping[str, object]) -> Iterator[str]:
    return (name for name in known if name not in model._field_defaults)
