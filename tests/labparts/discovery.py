"""Holds traffic to Google's own description of its API (a discovery document), as an independent judge.

Judged are types, formats, enums, name patterns, unknown fields, `kind`, required fields and fields that only answers
may hold, query parameters, and the shape of errors. null counts as absent; int64 and uint64 are strings in JSON.
The document says nothing of errors: their shape is https://cloud.google.com/apis/design/errors (the older form).
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Any

Json = dict[str, Any]
INTEGERS = {
    "int32": (-(2**31), 2**31 - 1),
    "uint32": (0, 2**32 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint64": (0, 2**64 - 1),
}
# What gcloud 528 sends to Google and the document of that time does not have.
UNDOCUMENTED: dict[str, Json] = {"returnPartialSuccess": {"type": "boolean"}}


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


def find(verb: str, path: str) -> tuple[str, dict[str, str]] | None:
    """The method of a request and the names in its path, which comes after /compute/v1/; None: there is no such."""
    given = path.split("/")
    for segments, id_ in _by_shape().get((verb, len(given)), ()):
        if all(want in ("{}", have) for want, have in zip(segments, given, strict=True)):
            names = re.findall(r"{\+?(\w+)}", method(id_)["flatPath"])
            places = [have for want, have in zip(segments, given, strict=True) if want == "{}"]
            return id_, dict(zip(names, places, strict=True))
    return None


@cache
def _by_shape() -> dict[tuple[str, int], list[tuple[list[str], str]]]:
    """(verb, segments) -> paths as segments, names as {}; those with the fewest names first: they are more exact."""
    found: dict[tuple[str, int], list[tuple[list[str], str]]] = {}
    for family, described in document()["resources"].items():
        for name, one in described["methods"].items():
            segments = re.sub(r"{[^}]*}", "{}", one["flatPath"]).split("/")
            found.setdefault((one["httpMethod"], len(segments)), []).append((segments, f"{family}.{name}"))
    return {key: sorted(paths, key=lambda path: path[0].count("{}")) for key, paths in found.items()}


# -- what is judged ----------------------------------------------------------------------------------------


def faults(value: Any, name: str) -> list[str]:
    """What of an answer does not fit the schema of that name, one line for each; none when it fits."""
    return _check(value, schema(name), name)


def request_faults(id_: str, query: Mapping[str, str], body: Any, *, strict: bool = True) -> list[str]:
    """What of a request does not fit a method: its query parameters and its body.

    strict: fields that only answers have are faults, too; Google ignores them, and its own commands send some. So are
    required fields that a PATCH leaves out; the document wants them, and a patch by its nature need not have them.
    """
    described = method(id_)
    parameters = {
        key: one for key, one in described.get("parameters", {}).items() if one["location"] == "query"
    }
    common = document()["parameters"]
    found = []
    for key, value in query.items():
        one = parameters.get(key) or common.get(key) or UNDOCUMENTED.get(key)
        if one is None:
            found.append(f"{id_}: no query parameter {key!r}")
        else:
            found += _check_text(value, one, f"{id_}?{key}")
    found += [
        f"{id_}: query parameter {key!r} is required"
        for key, one in parameters.items()
        if one.get("required") and key not in query
    ]
    if "request" not in described:
        return found if body in (None, {}) else [*found, f"{id_} takes no body"]
    name = described["request"]["$ref"]
    if not isinstance(body, dict):
        return [*found, f"{id_}: a body of {name} is needed, not {body!r}"]
    found += [
        f"{id_}: field {key!r} is required"
        for key, one in schema(name)["properties"].items()
        if (strict or described["httpMethod"] != "PATCH")
        and f"compute.{id_}" in one.get("annotations", {}).get("required", ())
        and body.get(key) is None
    ]
    return found + _check(body, schema(name), name, request=strict)


def path_faults(id_: str, names: Mapping[str, str]) -> list[str]:
    """What of the names in a request's path does not fit a method."""
    described = method(id_)["parameters"]
    return [
        line
        for key, value in names.items()
        if key in described and value != "-"  # Google's word for any zone
        for line in _check_text(value, described[key], f"{id_} {{{key}}}")
    ]


def error_faults(status: int, body: Any) -> list[str]:
    """What of an error's body is not as Google writes them."""
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return [f"status {status} without an error: {body!r}"]
    found = [f"error: no field {key!r}" for key in error if key not in _ERROR]
    found += [
        f"error.{key}: {kind.__name__} is needed, not {error.get(key)!r}"
        for key, kind in _ERROR.items()
        if (key in error or key in ("code", "message", "errors")) and not isinstance(error.get(key), kind)
    ]
    if found:
        return found
    if error["code"] != status:
        found.append(f"error.code is {error['code']}, the answer's status {status}")
    if not error["errors"]:
        found.append("error.errors is empty")
    for item in error["errors"]:
        for key in ("message", "domain", "reason"):
            if not isinstance(item.get(key), str) or not item[key]:
                found.append(f"error.errors: {key!r} is missing in {item!r}")
        found += [f"error.errors: no field {key!r}" for key in item if key not in _ERROR_ITEM]
    found += [f"error.details: no type in {one!r}" for one in error.get("details", ()) if "@type" not in one]
    return found


_ERROR: dict[str, type] = {"code": int, "message": str, "errors": list, "status": str, "details": list}
_ERROR_ITEM = ("message", "domain", "reason", "location", "locationType")


def exchange_faults(exchange: Json, own_agent: str = "rehost") -> list[str]:
    """What of one line of the lab's record (rehost.lab.exchanges) does not fit.

    A request that does not fit is the lab's fault when it was carried out, and the client's when the client is ours;
    others may ask what they like as long as they are refused.
    """
    verb, path, status, answer = (exchange[key] for key in ("verb", "path", "status", "answer"))
    cut_off = exchange["wire"] is not None and not answer
    own, accepted = exchange["agent"].startswith(own_agent), status in (200, 204) and not cut_off
    lines: list[str] = []
    known = find(verb, path)
    if known is None:
        lines += [f"{verb} {path} is no method of Google's"] if own or accepted else []
    else:
        id_, names = known
        if own or accepted:
            lines += path_faults(id_, names) + request_faults(
                id_, exchange["query"], exchange["request"], strict=own
            )
        if accepted and "response" in method(id_):
            lines += faults(answer, method(id_)["response"]["$ref"])
        elif accepted and answer:
            lines.append(f"{id_} answers nothing, not {answer!r}")
    if not accepted and not cut_off:
        lines += error_faults(status, answer)
    return [f"{verb} {path} {status} ({exchange['agent'][:40]}): {line}" for line in lines]


# -- values ------------------------------------------------------------------------------------------------


def _check(value: Any, described: Json, at: str, *, request: bool = False) -> list[str]:
    if "$ref" in described:
        return _check(value, schema(described["$ref"]), at, request=request)
    kind = described.get("type", "any")
    if kind == "object":
        return _check_object(value, described, at, request=request)
    if kind == "array":
        if not isinstance(value, list):
            return [f"{at}: a list is needed, not {value!r}"]
        return [
            line
            for i, part in enumerate(value)
            for line in _check(part, described["items"], f"{at}[{i}]", request=request)
        ]
    if kind == "any":
        return []
    return _check_scalar(value, described, at)


def _check_object(value: Any, described: Json, at: str, *, request: bool) -> list[str]:
    if not isinstance(value, dict):
        return [f"{at}: an object is needed, not {value!r}"]
    properties, others = described.get("properties", {}), described.get("additionalProperties")
    found = []
    for key, part in value.items():
        inner = properties.get(key, others)
        if inner is None:
            found.append(f"{at}: no field {key!r}")
        elif part is not None:
            if request and inner.get("readOnly") and key != "kind":  # Google's own clients send kind
                found.append(f"{at}.{key}: only answers have this field")
            found += _check(part, inner, f"{at}.{key}", request=request)
    return found


def _check_scalar(value: Any, described: Json, at: str) -> list[str]:
    kind = described["type"]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = {
        "string": isinstance(value, str),
        "boolean": isinstance(value, bool),
        "integer": number and value == int(value),
        "number": number,
    }[kind]
    if not fits:
        return [f"{at}: a {kind} is needed, not {value!r}"]
    if kind in ("integer", "number"):
        return _check_range(value, described, at)
    if kind == "boolean":
        return []
    if at.endswith(".kind") and value != described.get("default", value):
        return [f"{at}: {described['default']!r} is needed, not {value!r}"]
    return _check_string(value, described, at)


def _check_range(value: float, described: Json, at: str) -> list[str]:
    least, most = INTEGERS.get(described.get("format", ""), (None, None))
    least, most = described.get("minimum", least), described.get("maximum", most)
    if (least is not None and value < float(least)) or (most is not None and value > float(most)):
        return [f"{at}: {value} is not within {least} and {most}"]
    return []


def _check_string(value: str, described: Json, at: str) -> list[str]:
    form = described.get("format", "")
    if form in ("int64", "uint64"):
        if not re.fullmatch(r"-?[0-9]{1,20}", value):
            return [f"{at}: {form} is written as digits, not {value!r}"]
        least, most = INTEGERS[form]
        return [] if least <= int(value) <= most else [f"{at}: {value} is no {form}"]
    if form == "byte" and not _base64(value):
        return [f"{at}: {value!r} is not base64"]
    if form == "google-datetime" and not _moment(value):
        return [f"{at}: {value!r} is no moment of RFC 3339"]
    if "enum" in described and value not in described["enum"]:
        return [f"{at}: {value!r} is not one of {described['enum']}"]
    if "pattern" in described and not re.fullmatch(described["pattern"], value):
        return [f"{at}: {value!r} does not match {described['pattern']}"]
    return []


def _check_text(text: str, described: Json, at: str) -> list[str]:
    """A value in a path or query, where all is text."""
    kind = described["type"]
    if kind == "boolean":
        # gcloud writes True, and Google takes it.
        return (
            []
            if text in ("true", "false", "True", "False")
            else [f"{at}: true or false is needed, not {text!r}"]
        )
    if kind in ("integer", "number"):
        try:
            return _check_range(int(text) if kind == "integer" else float(text), described, at)
        except ValueError:
            return [f"{at}: a {kind} is needed, not {text!r}"]
    return _check_string(text, described, at)


def _base64(value: str) -> bool:
    try:
        base64.b64decode(value.replace("-", "+").replace("_", "/"), validate=True)
    except ValueError:
        return False
    return True


def _moment(value: str) -> bool:
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False
