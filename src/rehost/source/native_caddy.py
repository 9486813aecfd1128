"""A static site's `routes` and `headers` as a Caddyfile.

As Render does ("Static Site Redirects and Rewrites", "HTTP Headers for Static Sites"): a rule counts only where no file
is, the first that fits; a redirect is a 301; "*" and ":name" of the source stand for what they matched.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from rehost.source.yaml_text import Text

# What would mean something else in a Caddyfile.
_UNSAFE = re.compile(r"[\s\"'`{}\\#\x00-\x1f]")
_NAME = re.compile(r"[A-Za-z0-9-]+")
# Nothing of the site stands there.
_NO_FILE = "not file {path} {path}/index.html {path}.html"


class Route(NamedTuple):
    """One rule. source and destination as in a blueprint. Its destination is a path, or with `rewrite` an address."""

    redirect: bool
    source: str
    destination: str


class Header(NamedTuple):
    path: str
    name: str
    value: str


def route(item: Text) -> Route | None:
    """One item of `routes`; None for what is none, or cannot be written into a Caddyfile."""
    if not isinstance(item, dict):
        return None
    kind, source, to = (str(item.get(key, "")) for key in ("type", "source", "destination"))
    plain = not _UNSAFE.search(f"{source}{to}") and source.startswith("/") and source.count("*") < 2
    there = to.startswith("/") or (to.startswith(("http://", "https://")) and bool(urlsplit(to).hostname))
    known = {*item} <= {"type", "source", "destination"} and kind in ("redirect", "rewrite")
    return Route(kind == "redirect", source, to) if plain and there and known else None


def header(item: Text) -> Header | None:
    """One item of `headers`; None as for a route."""
    if not isinstance(item, dict) or {*item} != {"path", "name", "value"}:
        return None
    path, name, value = (str(item[key]) for key in ("path", "name", "value"))
    if not path.startswith("/") or _UNSAFE.search(path) or not _NAME.fullmatch(name):
        return None
    return None if re.search(r"[{}\\\x00-\x1f]", value) else Header(path, name, value)


def lines(port: int, routes: Sequence[Route], headers: Sequence[Header]) -> list[str]:
    """The Caddyfile of a site whose files are in /srv."""
    made = [f":{port} {{", "root * /srv"]
    for number, each in enumerate(headers):
        value = each.value.replace('"', '\\"')
        made += [
            f"@h{number} path_regexp {_header_path(each.path)}",
            f'header @h{number} {each.name} "{value}"',
        ]
    for number, rule in enumerate(routes):
        made += [f"@r{number} {{", _NO_FILE, f"path_regexp r{number} {_source(rule.source)}", "}"]
    made.append("route {")
    for number, rule in enumerate(routes):
        made += [f"handle @r{number} {{", *_apply(rule, number), "}"]
    return [*made, "handle {", "file_server", "}", "}", "}"]


def _apply(rule: Route, number: int) -> list[str]:
    groups = re.findall(r"\*|:\w+", rule.source)
    to = rule.destination
    for place, group in enumerate(groups, 1):
        to = re.sub(rf"{re.escape(group)}(?!\w)", f"{{re.r{number}.{place}}}", to)
    if rule.redirect:
        return [f"redir * {to} 301"]  # without the star a path would be taken for what is to match
    if to.startswith("/"):
        return [f"rewrite * {to}", "file_server"]
    at = urlsplit(to)
    return [
        f"rewrite * {at.path or '/'}",
        f"reverse_proxy {at.scheme}://{at.netloc} {{",
        "header_up Host {upstream_hostport}",
        "}",
    ]


def _source(path: str) -> str:
    parts = re.split(r"(\*|:\w+)", path)
    return f"^{''.join({'*': '(.*)', ':': '([^/]+)'}.get(part[:1]) or re.escape(part) for part in parts)}$"


def _header_path(path: str) -> str:
    """ "/*" is everything, "/*.css" what lies at the top, "/**/*" what has a directory."""
    parts = re.split(r"(\*\*|\*$|\*)", path)
    last = len(parts) - 2 if path.endswith("*") else -1
    found = [
        ".*"
        if part == "**" or (part == "*" and place == last)
        else "[^/]*"
        if part == "*"
        else re.escape(part)
        for place, part in enumerate(parts)
    ]
    return f"^{''.join(found)}$"
