"""Who else must know: places that call the app by the name that ends with the move.

A name below onrender.com cannot be moved by DNS, so each caller has to be changed, and what was built with the
name in it has to be built again.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterable
from typing import NamedTuple
from urllib.parse import urlsplit

from rehost.run.findings import Finding, Severity
from rehost.source.contract_files import Sources, line_of

_ANY_ONRENDER = re.compile(rb"(?i)(?<![a-z0-9.-])(?:[a-z0-9-]+\.)+onrender\.com(?![a-z0-9-]|\.[a-z0-9])")
_ONRENDER = ".onrender.com"
_SHOWN = 20


class Kind(NamedTuple):
    """What kind of caller a place is, and what is to be changed. Earlier ones of the list count first."""

    name: str
    path: re.Pattern[str]
    line: re.Pattern[str]
    cure: str


def _kind(name: str, path: str, line: str, cure: str) -> Kind:
    return Kind(name, re.compile(path), re.compile(line, re.IGNORECASE), cure)


_ANYTHING = ""
KINDS = (
    _kind(
        "a mobile build",
        r"(?:^|/)(?:app\.json|app\.config\.[jt]s|eas\.json|Info\.plist|AndroidManifest\.xml|network_security_config\.xml"
        r"|build\.gradle(?:\.kts)?|gradle\.properties|strings\.xml|google-services\.json|capacitor\.config\.\w+"
        r"|pubspec\.yaml)$|\.(?:swift|kt|dart|xcconfig|entitlements)$",
        _ANYTHING,
        "Change it, build and publish a new version; installed versions keep calling the old name, so leave the old "
        "side up until few of them are left.",
    ),
    _kind(
        "an OAuth redirect",
        _ANYTHING,
        r"redirect_?ur[il]|callback_?ur[il]|/callback\b|oauth|sso|passport|auth/\w+/callback",
        "Change it here and in the provider's console: add the new address there before the move, take the old one out "
        "after it.",
    ),
    _kind(
        "a webhook",
        _ANYTHING,
        r"webhook|web_hook|\bhooks?/|postback|notify_?url|ipn_?url",
        "Register the new address with the sender, and keep the old one until nothing arrives there any more.",
    ),
    _kind(
        "a CORS origin",
        _ANYTHING,
        r"cors|origins?\b|allowed_hosts|trusted_origins|access-control|frame-ancestors|connect-src",
        "Add the new address to the list; take the old one out after the move.",
    ),
    _kind(
        "continuous integration",
        r"^\.github/|^\.circleci/|^\.gitlab|(?:^|/)(?:Jenkinsfile|azure-pipelines\.yml)$",
        _ANYTHING,
        "Change it: a deploy hook or a smoke test of Render's has nothing to call after the move.",
    ),
    _kind(
        "a frontend's build variable",
        r"(?:^|/)\.env[^/]*$|\.env$",
        _ANYTHING,
        "Change it, also where the frontend is hosted, and build the frontend again: the name is baked into its files.",
    ),
    _kind(
        "a frontend's host",
        r"(?:^|/)(?:netlify\.toml|vercel\.json|_redirects|_headers|wrangler\.(?:toml|jsonc?)|firebase\.json)$",
        _ANYTHING,
        "Change it and deploy the frontend again: until then its host passes requests on to the old name.",
    ),
    _kind(
        "the blueprint",
        r"(?:^|/)render\.ya?ml$",
        _ANYTHING,
        "Change it where it is a variable or a rewrite of another service that stays at Render, and deploy that again.",
    ),
    _kind("documentation", r"\.(?:md|txt|rst|adoc)$", _ANYTHING, "Change it when the move is done."),
    _kind(
        "a frontend",
        r"\.(?:html|vue|svelte|astro|jsx|tsx|css)$|(?:^|/)(?:frontend|client|web|ui|www|public|static)/",
        _ANYTHING,
        "Change it (better: one variable of its build), and build and publish the frontend again.",
    ),
    _kind("code", _ANYTHING, _ANYTHING, "Change it; a variable of the environment keeps the next move easy."),
)


class Caller(NamedTuple):
    """One place. name: the host name that stands there."""

    file: str
    line: int
    name: str
    kind: Kind


def old_names(url: str | None, services: Iterable[str] = ()) -> frozenset[str]:
    """The host names that end: the source's own, and those that Render makes of services' names."""
    host = (urlsplit(url).hostname or "") if url else ""
    return frozenset({*(f"{name}{_ONRENDER}" for name in services if name), *([host] if host else [])})


def find(sources: Sources, names: Collection[str], *, others: bool = True) -> list[Caller]:
    """Every place that has one of the names; with `others`, any name below onrender.com.

    The line is read to tell the kind and goes no further: it may hold secrets.
    """
    exact = b"|".join(re.escape(name.encode()) for name in sorted(names))
    named = re.compile(rb"(?i)(?<![a-z0-9.-])(?:%s)(?![a-z0-9-]|\.[a-z0-9])" % exact) if names else None
    patterns = [each for each in (named, _ANY_ONRENDER if others else None) if each is not None]
    words = [name.encode() for name in names] + ([b"onrender.com"] if others else [])
    found: dict[tuple[str, int, str], Caller] = {}
    for path, text in sources.texts.items():
        if path.endswith("rehost.toml"):
            continue
        lower = text.lower()
        if not any(word in lower for word in words):
            continue
        for pattern in patterns:
            for match in pattern.finditer(text):
                line = line_of(text, match.start())
                name = match[0].decode().lower()
                found.setdefault(
                    (path, line, name), Caller(path, line, name, _kind_of(path, text, match.start()))
                )
    return sorted(found.values(), key=lambda each: (each.file, each.line, each.name))


def _kind_of(path: str, text: bytes, position: int) -> Kind:
    start = text.rfind(b"\n", 0, position) + 1
    end = text.find(b"\n", position)
    # A list stands under its name as often as beside it.
    before = text[text.rfind(b"\n", 0, max(0, start - 1)) + 1 : start]
    line = (before + text[start : end if end >= 0 else len(text)]).decode("utf-8", "replace")
    return next(kind for kind in KINDS if kind.path.search(path) and kind.line.search(line))


def findings(found: Iterable[Caller], own: Collection[str], prefix: str = "") -> list[Finding]:
    """One finding for each kind of caller, with its places. prefix: the directory that they stand in.

    A name that is not the app's own is another service at Render: it goes on as long as that service does.
    """
    groups: dict[tuple[Kind, bool], list[Caller]] = {}
    for each in found:
        groups.setdefault((each.kind, each.name in own), []).append(each)
    made: list[Finding] = []
    for (kind, ours), callers in sorted(
        groups.items(), key=lambda item: (not item[0][1], KINDS.index(item[0][0]))
    ):
        places = list(dict.fromkeys(f"{posixpath.join(prefix, each.file)}:{each.line}" for each in callers))
        also = f"; also {', '.join(places[1:_SHOWN])}" if places[1:] else ""
        more = f" and {len(places) - _SHOWN} more" if len(places) > _SHOWN else ""
        names = ", ".join(sorted({each.name for each in callers}))
        # Another service goes on as long as it stands at Render.
        cure = (
            kind.cure if ours else f"When that service moves or ends: {kind.cure[0].lower()}{kind.cure[1:]}"
        )
        severity: Severity = "warning" if ours or kind.name != "the blueprint" else "ok"
        made.append(Finding(severity, f"{kind.name} has {names}{also}{more}.", cure, places[0]))
    return made
