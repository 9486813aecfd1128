"""Lists: filter expressions, order and pages."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rehost.lab.compute_call import Call
from rehost.lab.compute_errors import invalid
from rehost.lab.state import Resource, link

_TOKENS = re.compile(
    r"""\s*(?:(?P<paren>[()])|(?P<quoted>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(?P<op>!=|<=|>=|[=:<>])"""
    r"""|(?P<word>[^\s()=:<>!"']+))"""
)
_OPS = ("=", "!=", ":", "eq", "ne", "<", ">", "<=", ">=")
Test = Callable[[Resource], bool]


def filtered(items: Iterable[Resource], expression: str) -> list[Resource]:
    """Those that the `filter` parameter keeps: comparisons by = != : < > <= >= and (as patterns) eq ne, joined by
    AND (also unsaid), OR and NOT, in parentheses. Raises ApiError 400 for what is no such expression."""
    if not expression.strip():
        return list(items)
    test = _Parser(expression).whole()
    return [item for item in items if test(item)]


def page(call: Call, kind: str, items: Iterable[Resource]) -> Resource:
    """The answer of a list method."""
    url = link(_collection(call))
    kept, token = _cut(call, filtered(items, call.query.get("filter", "")), lambda item: str(item["name"]))
    answer: Resource = {"kind": kind, "id": _collection(call), "selfLink": url}
    if kept:
        answer["items"] = kept
    if token:
        answer["nextPageToken"] = token
    return answer


def aggregated(call: Call, kind: str, word: str, scopes: Mapping[str, Iterable[Resource]]) -> Resource:
    """The answer of an aggregated list: scope ("zones/z") -> resources; `word` is the collection's name."""
    expression = call.query.get("filter", "")
    flat = [(scope, item) for scope, items in scopes.items() for item in filtered(items, expression)]
    kept, token = _cut(call, flat, lambda pair: f"{pair[0]}/{pair[1]['name']}")
    found: dict[str, Resource] = {}
    for scope in scopes:
        here = [item for where, item in kept if where == scope]
        found[scope] = {word: here} if here else {"warning": _nothing_in(scope)}
    answer: Resource = {
        "kind": kind,
        "id": _collection(call),
        "items": found,
        "selfLink": link(_collection(call)),
    }
    if token:
        answer["nextPageToken"] = token
    return answer


def _collection(call: Call) -> str:
    return call.method.template.format_map({**call.path, "project": call.cloud.project})


def _nothing_in(scope: str) -> Resource:
    return {
        "code": "NO_RESULTS_ON_PAGE",
        "message": f"There are no results for scope '{scope}' on this page.",
        "data": [{"key": "scope", "value": scope}],
    }


def _cut(call: Call, items: list[Any], key: Callable[[Any], str]) -> tuple[list[Any], str]:
    """One page, and the token of the next. A token names the last item shown: stable when others come and go."""
    size = call.query.get("maxResults", "500")
    if not size.isascii() or not size.isdigit() or not 0 <= int(size) <= 500:
        raise invalid("maxResults", size, "Must be between 0 and 500.")
    order = call.query.get("orderBy", "name")
    if order not in ("name", "creationTimestamp desc"):
        raise invalid("orderBy", order, "Must be 'name' or 'creationTimestamp desc'.")
    if order != "name":
        items = sorted(items, key=_stamp, reverse=True)
        keys = [key(item) for item in items]
    else:
        items = sorted(items, key=key)
        keys = [key(item) for item in items]
    start = 0
    if token := call.query.get("pageToken"):
        try:
            start = keys.index(base64.urlsafe_b64decode(token).decode()) + 1
        except (ValueError, binascii.Error):
            raise invalid("pageToken", token, "The page token is not valid.") from None
    end = start + (int(size) or 500)
    following = base64.urlsafe_b64encode(keys[end - 1].encode()).decode() if end < len(items) else ""
    return items[start:end], following


def _stamp(item: Any) -> str:
    resource = item[1] if isinstance(item, tuple) else item
    return str(resource.get("creationTimestamp", ""))


class _Parser:
    """A recursive-descent parser.

    any := all (OR all)*; all := one ([AND] one)*; one := NOT one | (any) | field op value
    """

    def __init__(self, expression: str) -> None:
        self._expression = expression
        self._tokens = self._split(expression)
        self._next = 0

    def whole(self) -> Test:
        test = self._any()
        if self._peek() is not None:
            raise self._wrong()
        return test

    def _split(self, expression: str) -> list[tuple[str, str]]:
        found, at = [], 0
        text = expression.rstrip()
        while at < len(text):
            match = _TOKENS.match(text, at)
            if not match:
                raise self._wrong()
            kind = match.lastgroup or ""
            value = match[kind]
            found.append((kind, value))
            at = match.end()
        return found

    def _wrong(self) -> Exception:
        return invalid("filter", self._expression, "Invalid list filter expression.")

    def _peek(self) -> tuple[str, str] | None:
        return self._tokens[self._next] if self._next < len(self._tokens) else None

    def _take(self) -> tuple[str, str]:
        token = self._peek()
        if token is None:
            raise self._wrong()
        self._next += 1
        return token

    def _any(self) -> Test:
        tests = [self._all()]
        while self._peek() == ("word", "OR"):
            self._take()
            tests.append(self._all())
        return lambda item: any(test(item) for test in tests)

    def _all(self) -> Test:
        tests = [self._one()]
        while (token := self._peek()) is not None and token not in (("word", "OR"), ("paren", ")")):
            if token == ("word", "AND"):
                self._take()
            tests.append(self._one())
        return lambda item: all(test(item) for test in tests)

    def _one(self) -> Test:
        kind, field = self._take()
        if (kind, field) == ("word", "NOT"):
            refused = self._one()
            return lambda item: not refused(item)
        if (kind, field) == ("paren", "("):
            test = self._any()
            if self._take() != ("paren", ")"):
                raise self._wrong()
            return test
        if kind != "word":
            raise self._wrong()
        _, op = self._take()
        if op not in _OPS:
            raise self._wrong()
        kind, value = self._take()
        if kind not in ("word", "quoted"):
            raise self._wrong()
        pattern = op in ("eq", "ne")
        if kind == "quoted":
            # In a pattern a backslash is the pattern's own, but for a quotation mark.
            value = re.sub(r"\\([\"'])" if pattern else r"\\(.)", r"\1", value[1:-1])
        if pattern:
            try:
                re.compile(value)
            except re.error:
                raise self._wrong() from None
        return lambda item: _matches(_field(item, field), op, value)


def _field(item: Any, dotted: str) -> Any:
    """labels.app, networkInterfaces.networkIP: a name after a list asks each of its members."""
    for part in dotted.split("."):
        if isinstance(item, list):
            item = [member.get(part) for member in item if isinstance(member, dict)]
        elif isinstance(item, dict):
            item = item.get(part)
        else:
            return None
    return item


def _matches(found: Any, op: str, value: str) -> bool:
    if isinstance(found, list):
        return any(_matches(member, op, value) for member in found)
    if op in ("!=", "ne"):
        return not _matches(found, "=" if op == "!=" else "eq", value)
    if found is None:
        return False
    text = str(found).lower() if isinstance(found, bool) else str(found)
    if op == ":":
        return value == "*" or value.lower() in text.lower()
    if op == "eq":
        return re.fullmatch(value, text) is not None
    if op == "=":
        # "*" stands for any text, as in name=app-*.
        return (
            re.fullmatch(".*".join(re.escape(part) for part in value.split("*")), text, re.DOTALL) is not None
        )
    try:
        left, right = float(text), float(value)
    except ValueError:
        return {"<": text < value, ">": text > value, "<=": text <= value, ">=": text >= value}[op]
    return {"<": left < right, ">": left > right, "<=": left <= right, ">=": left >= right}[op]
