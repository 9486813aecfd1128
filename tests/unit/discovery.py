"""Checks JSON against Google's own description of its API (a discovery document), as an independent judge.

null counts as absent, unknown fields and wrong types are faults, int64 and uint64 are strings in JSON.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from functools import cache
from importlib.resources import files
from typing import Any

Json = dict[str, Any]


@cache
def document(name: str = "compute.v1") -> Json:
    """A discovery document out of the package google-api-python-client."""
    package = files("googleapiclient.discovery_cache.documents")
    found: Json = json.loads((package / f"{name}.json").read_text())
    return found


def schema(name: str) -> Json:
    found: Json = document()["schemas"][name]
    return found


def method(id_: str) -> Json:
    """A method by its id without "compute.", for example "instances.insert"."""
    family, name = id_.split(".")
    found: Json = document()["resources"][family]["methods"][name]
    return found


def faults(value: Any, name: str) -> list[str]:
    """What of a value does not fit the schema of that name, one line for each; none when it fits."""
    return _check(value, schema(name), name)


def request_faults(id_: str, query: dict[str, str], body: Any) -> list[str]:
    """What of a request does not fit a method: its query parameters and its body."""
    described = method(id_)
    allowed = set(described["parameters"]) | set(document()["parameters"])
    found = [f"{id_}: no query parameter {key!r}" for key in query if key not in allowed]
    missing = [
        f"{id_}: query parameter {key!r} is required"
        for key, parameter in described["parameters"].items()
        if parameter.get("required") and parameter["location"] == "query" and key not in query
    ]
    if "request" in described:
        found += faults(body, described["request"]["$ref"])
    elif body not in (None, {}):
        found.append(f"{id_} takes no body")
    return found + missing


def _check(value: Any, described: Json, at: str) -> list[str]:
    if "$ref" in described:
        return _check(value, schema(described["$ref"]), at)
    kind = described.get("type", "any")
    if kind == "object":
        return _check_object(value, described, at)
    if kind == "array":
        if not isinstance(value, list):
            return [f"{at}: a list is needed, not {value!r}"]
        return [
            line for i, part in enumerate(value) for line in _check(part, described["items"], f"{at}[{i}]")
        ]
    if kind == "any":
        return []
    return _check_scalar(value, described, at)


def _check_object(value: Any, described: Json, at: str) -> list[str]:
    if not isinstance(value, dict):
        return [f"{at}: an object is needed, not {value!r}"]
    properties, others = described.get("properties", {}), described.get("additionalProperties")
    found = []
    for key, part in value.items():
        inner = properties.get(key, others)
        if inner is None:
            found.append(f"{at}: no field {key!r}")
        elif part is not None:
            found += _check(part, inner, f"{at}.{key}")
    return found


def _check_scalar(value: Any, described: Json, at: str) -> list[str]:
    kind, form = described["type"], described.get("format", "")
    number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = {
        "string": isinstance(value, str),
        "boolean": isinstance(value, bool),
        "integer": number and value == int(value),
        "number": number,
    }[kind]
    if not fits:
        return [f"{at}: a {kind} is needed, not {value!r}"]
    if form in ("int64", "uint64") and not re.fullmatch(
        r"-?\d{1,20}" if form == "int64" else r"\d{1,20}", value
    ):
        return [f"{at}: {form} is written as digits, not {value!r}"]
    if form == "byte" and not _base64(value):
        return [f"{at}: {value!r} is not base64"]
    if "enum" in described and value not in described["enum"]:
        return [f"{at}: {value!r} is not one of {described['enum']}"]
    return []


def _base64(value: str) -> bool:
    try:
        base64.b64decode(value.replace("-", "+").replace("_", "/"), validate=True)
    except binascii.Error:
        return False
    return True
