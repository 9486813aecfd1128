"""Do the values of the environment look right? Findings that never show a value."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from rehost.project.dotenv import Environment
from rehost.run.findings import Finding

# Hosts of URLs and of lists of URLs: after the scheme, a login and each comma.
_HOSTS = re.compile(
    r"(?:https?|wss?|postgres\w*(?:\+\w+)?|mysql(?:\+\w+)?|mariadb(?:\+\w+)?|mongodb(?:\+srv)?|rediss?|amqps?|nats|smtps?)"
    r"://(?:[^@/\s?#]*@)?((?:\[[0-9a-f:.]+\]|[^/\s?#:,]+)(?::\d+)?(?:,(?![a-z0-9+.-]+://)[^/\s?#,]+)*)",
    re.I,
)
_LOCAL = re.compile(r"localhost|127\.\d+\.\d+\.\d+|0\.0\.0\.0|\[::1?\]")
_PRIVATE_RENDER = re.compile(r"(?:dpg|red)-[a-z0-9]{10,}(?:-[a-z])?")
_ONRENDER = re.compile(r"(?:^|[^a-z0-9-])(?:[a-z0-9-]+\.)*onrender\.com(?![a-z0-9.-])", re.I)
_PLACEHOLDER = re.compile(
    r"change[-_ ]?(?:me|this|it)\b|replace[-_ ]?(?:me|this|with)\b|^your[-_ ]|[/:@]your[-_ ]|^<[^<>]+>$|[:@/]<[^<>]+>"
    r"|^x{3,}$|[-_/:]x{4,}|^(?:todo|tbd|fixme|undefined|placeholder|dummy)$|^insert[-_ ]|^\.{3,}$|^\*{3,}$",
    re.IGNORECASE,
)
# Keys that the app signs or encrypts with. Those that somebody else issued have the length that they have.
_SIGNING = re.compile(
    r"(?:(?:DJANGO|FLASK|APP|API|RAILS|JWT|NEXT|NUXT|TOKEN|ACCESS|REFRESH)_)*(?:SECRET(?:_KEY)?(?:_BASE)?|JWT_KEY"
    r"|(?:SESSION|COOKIE|AUTH|NEXTAUTH|TOKEN|ACCESS_TOKEN|REFRESH_TOKEN)_SECRET(?:_KEY)?|(?:SESSION|SIGNING|ENCRYPTION)_KEY)"
)
# RFC 7518, section 3.2: a key for HMAC with SHA-256 has at least as many bits as its result.
SHORTEST_KEY = 32
_PASSWORD = re.compile(r"(?:\w+_)?(?:PASSWORD|PASSWD|PASS)")
SHORTEST_PASSWORD = 8
_COMMON_SECRETS = frozenset(
    {
        "secret",
        "password",
        "passwort",
        "admin",
        "test",
        "dev",
        "development",
        "default",
        "example",
        "none",
        "null",
    }
)


def findings(environment: Environment, services: Collection[str] = ()) -> list[Finding]:
    """One finding for each value and what seems wrong with it. Warnings: the owner may know better.

    services: names that the app's own network knows.
    """
    return [
        Finding("warning", f"{name}: {what}", cure, environment.origin[name])
        for name, secret in environment.values.items()
        for what, cure in _of_value(name, secret.reveal(), services)
    ]


def _of_value(name: str, value: str, services: Collection[str]) -> Iterator[tuple[str, str]]:
    if not value:
        return
    if value != value.strip() and "-----END" not in value:
        yield (
            "the value begins or ends in white space.",
            "Take it out of the quotes, unless it belongs there.",
        )
    bare = value.strip()
    if len(bare) > 1 and bare[0] == bare[-1] and bare[0] in "\"'`":
        yield (
            "the value stands in quotes that belong to it: the app sees them.",
            "Keep one pair: a dotenv file's own quotes are not part of the value.",
        )
        bare = bare[1:-1]
    if _PLACEHOLDER.search(bare):
        yield "this looks like a placeholder.", f"Give it its real value: `rehost env set {name}`."
    else:
        yield from _secret(name, bare)
    yield from _addresses(name, bare, services)


def _secret(name: str, value: str) -> Iterator[tuple[str, str]]:
    keep = "For the move carry it over as it is (a new one ends every session); then change it."
    if _SIGNING.fullmatch(name.upper()):
        if value.startswith("django-insecure-"):
            yield "this is the key that `startproject` made for development.", keep
        elif len(value) < SHORTEST_KEY or len(set(value)) < 8 or value.lower() in _COMMON_SECRETS:
            yield (
                f"a weak secret: shorter than {SHORTEST_KEY} characters, or of few different ones.",
                keep,
            )
    elif _PASSWORD.fullmatch(name.upper()) and (
        len(value) < SHORTEST_PASSWORD or value.lower() in _COMMON_SECRETS
    ):
        yield f"a weak password: shorter than {SHORTEST_PASSWORD} characters, or a common word.", "Change it."


def _addresses(name: str, value: str, services: Collection[str]) -> Iterator[tuple[str, str]]:
    hosts = [host.rpartition("@")[2] for found in _HOSTS.findall(value) for host in found.split(",")]
    names = [re.sub(r":\d+$", "", host).lower() for host in hosts]
    if not hosts and name.upper().endswith(("_HOST", "_SERVER", "_ADDRESS")):
        names = [re.sub(r":\d+$", "", value).lower()]
        names = [] if any(word in name.upper() for word in ("BIND", "LISTEN")) else names
    if any(_LOCAL.fullmatch(host) for host in names):
        yield (
            "the address is this computer's own: in the container, that is the container itself.",
            "Give the address that production has, or leave the variable out.",
        )
    if any(_PRIVATE_RENDER.fullmatch(host) for host in names):
        yield (
            "the host is a private name of Render's, which nobody outside Render can look up.",
            "Take the external address from Render's dashboard.",
        )
    elif hosts and any(
        "." not in host and ":" not in host and host not in services and not _LOCAL.fullmatch(host)
        for host in names
    ):
        yield (
            "the host is a name without a domain: private names (Render's, Docker Compose's) end with their network.",
            "Give an address that the machine reaches, or run it beside the app, as a table of [services].",
        )
    if _ONRENDER.search(value):
        yield (
            "this is an address at onrender.com, which ends when the service there is deleted.",
            "If it is this app's own, give the new one; see also `rehost check --callers DIR`.",
        )
