"""Addresses of databases in an environment, taken apart without asking anybody."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, TypeAlias
from urllib.parse import unquote

from rehost.run.secret import Secret

Server: TypeAlias = Literal["postgresql", "mysql", "redis", "mongodb"]
# Drivers write their own names behind a "+": postgresql+asyncpg.
_ADDRESS: Final = re.compile(
    r"(?P<scheme>mongodb(?:\+srv)?|postgres(?:ql)?(?:\+\w+)?|mysql2?(?:\+\w+)?|mariadb(?:\+\w+)?|rediss?)://(?P<rest>\S+)",
    re.IGNORECASE,
)
_PORTS: Final[Mapping[Server, int]] = {"postgresql": 5432, "mysql": 3306, "redis": 6379, "mongodb": 27017}


class Database(NamedTuple):
    """What a variable's address says. hosts: with their ports; one name without port for mongodb+srv.

    path: what stands between host and "?". options: what stands behind it, names in lower case.
    """

    variable: str
    server: Server
    hosts: tuple[tuple[str, int], ...]
    user: str = ""
    password: Secret = Secret("")
    path: str = ""
    options: Mapping[str, str] = MappingProxyType({})
    srv: bool = False
    tls: bool = False

    @property
    def inside(self) -> bool:
        """Whether it names what only a container can ask: itself, or a private name beside it."""
        return all(_inside(host) for host, _ in self.hosts)


def _inside(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return "." not in host or host.endswith((".localhost", ".docker.internal"))


def databases(values: Mapping[str, Secret]) -> tuple[Database, ...]:
    """The databases that the variables name. A value that only looks like an address is none."""
    found = (_database(name, value.reveal().strip()) for name, value in values.items())
    return tuple(each for each in found if each is not None)


def _database(variable: str, value: str) -> Database | None:
    matched = _ADDRESS.fullmatch(value)
    if matched is None:
        return None
    scheme = matched["scheme"].lower()
    server = _server(scheme)
    address, _, query = matched["rest"].partition("?")
    login, at, rest = address.rpartition("@")
    names, _, path = rest.partition("/")
    user, _, password = login.partition(":") if at else ("", "", "")
    options = {
        unquote(name).lower(): unquote(option)
        for name, _, option in (pair.partition("=") for pair in query.partition("#")[0].split("&"))
        if name
    }
    srv = scheme == "mongodb+srv"
    hosts = []
    for name in names.split(","):
        host = _host(name, 0 if srv else _PORTS[server])
        if host is None:
            return None
        hosts.append(host)
    return Database(
        variable,
        server,
        tuple(hosts),
        unquote(user),
        Secret(unquote(password)),
        unquote(path),
        options,
        srv,
        scheme == "rediss",
    )


def _server(scheme: str) -> Server:
    if scheme.startswith("mongodb"):
        return "mongodb"
    if scheme.startswith("postgres"):
        return "postgresql"
    return "redis" if scheme.startswith("redis") else "mysql"


def _host(written: str, default: int) -> tuple[str, int] | None:
    """Name and port; None for what is neither, a socket's path for one."""
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%]+)\]|([^\s:/\[\]]+))(?::([0-9]{1,5}))?", unquote(written))
    if found is None:
        return None
    port = int(found[3]) if found[3] else default
    return (found[1] or found[2], port) if port <= 65535 else None
