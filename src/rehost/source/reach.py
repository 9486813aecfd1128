"""Does each database that the environment names let the machine in? Proved by logging in, from the machine.

The machine opens the connections (ssh forwards them), so its resolver, its address and its routes count; the
protocols are spoken here, so nothing is installed there and no password leaves this computer but to the database.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, NamedTuple

from rehost.machine.ssh import Machine, NotOpened
from rehost.run.findings import Finding
from rehost.source import reach_dns, reach_mongodb, reach_mysql, reach_postgres, reach_redis
from rehost.source.reach_pipe import Connection, Fault, Pipe
from rehost.source.reach_url import Database

Dial = Callable[[str, int], Awaitable[Connection]]
# A packet that a firewall drops is sent again after 1 and 3 s: what does not answer by now does not.
SECONDS: Final = 10.0
_LOGINS: Final = {
    "postgresql": reach_postgres.login,
    "mysql": reach_mysql.login,
    "redis": reach_redis.login,
    "mongodb": reach_mongodb.login,
}
_CALLED: Final = {"postgresql": "PostgreSQL", "mysql": "MySQL", "redis": "Redis", "mongodb": "MongoDB"}
# Where an address names the file of the authority that signed the server's certificate.
_AUTHORITIES: Final = ("sslrootcert", "tlscafile", "ssl_ca_certs", "ssl-ca", "ssl_ca")


class Unanswered(NamedTuple):
    """A server that did not let the machine in."""

    host: str
    port: int
    fault: Fault


class Door:
    """How the machine is asked. address: its own, for what people have to write into access lists.

    authorities: the secret files that are text, by name: an address may name one that holds a certificate.
    """

    def __init__(self, dial: Dial, resolver: Callable[[], Awaitable[str]], address: str) -> None:
        self._dial = dial
        self._resolver = resolver
        self.address = address
        self.authorities: Mapping[str, str] = {}

    async def open(self, host: str, port: int, seconds: float) -> Pipe:
        """Raises Fault."""
        try:
            async with asyncio.timeout(seconds):
                return Pipe(await self._dial(host, port))
        except TimeoutError:
            raise Fault("silent", "") from None
        except NotOpened as closed:
            raise _not_opened(closed) from closed

    async def servers(self, name: str, seconds: float) -> tuple[list[reach_dns.Target], Mapping[str, str]]:
        """What stands behind mongodb+srv: servers, and options. Raises Fault."""
        for nameserver in reach_dns.nameservers(await self._resolver())[:2]:
            try:
                pipe = await self.open(nameserver, 53, seconds)
            except Fault:
                continue
            try:
                async with asyncio.timeout(seconds):
                    found = await reach_dns.servers(pipe, f"_mongodb._tcp.{name}")
                    written = "&".join(await reach_dns.texts(pipe, name))
            except TimeoutError:
                continue
            finally:
                pipe.close()
            pairs = (pair.partition("=") for pair in written.split("&") if pair)
            return found, {key.lower(): value for key, _, value in pairs}
        raise Fault("host", "the machine's name servers do not answer")


def of_machine(machine: Machine, address: str) -> Door:
    """The door of a machine to which a connection is open."""

    async def resolver() -> str:
        return (await machine.run("cat /etc/resolv.conf", what="reading resolv.conf")).stdout

    return Door(machine.tcp, resolver, address)


def _not_opened(closed: NotOpened) -> Fault:
    """What the machine's sshd says, sorted: strerror(3) and gai_strerror(3) of its C library."""
    words = closed.words.strip()
    lower = words.lower()
    if closed.forbidden:
        return Fault("forbidden", "")
    if "refused" in lower:
        return Fault("refused", "")
    if "timed out" in lower:
        return Fault("silent", "")
    if any(each in lower for each in ("name or service", "no address", "name resolution", "unknown host")):
        return Fault("host", words)
    return Fault("closed", words or "no reason given")


async def prove(door: Door, database: Database, seconds: float = SECONDS) -> Finding:
    """Logs in to every server that the address names. Changes nothing there. Raises MachineError."""
    try:
        hosts: Sequence[tuple[str, int]] = database.hosts
        if database.srv:
            targets, options = await door.servers(database.hosts[0][0], seconds)
            hosts = [(each.host, each.port) for each in targets]
            database = database._replace(options={**options, **database.options})
    except Fault as fault:
        return _finding(database, door.address, [Unanswered(database.hosts[0][0], 0, fault)], 0)
    tried = await asyncio.gather(*(_one(door, database, host, port, seconds) for host, port in hosts))
    return _finding(database, door.address, [each for each in tried if each is not None], len(hosts))


async def _one(door: Door, database: Database, host: str, port: int, seconds: float) -> Unanswered | None:
    try:
        pipe = await door.open(host, port, seconds)
    except Fault as fault:
        return Unanswered(host, port, fault)
    try:
        async with asyncio.timeout(seconds):
            await _LOGINS[database.server](pipe, database, host, authority(door, database))
    except TimeoutError:
        words = f"it took the connection and then said nothing for {seconds:g} s"
        return Unanswered(host, port, Fault("tls" if pipe.shaking else "protocol", words))
    except Fault as fault:
        return Unanswered(host, port, fault)
    except (struct.error, ValueError, IndexError, ArithmeticError):
        # The protocols take answers apart by position: one of another form fails at any of them.
        return Unanswered(host, port, Fault("protocol", "its answer is not understood"))
    finally:
        pipe.close()
    return None


def authority(door: Door, database: Database) -> str:
    """The certificate that the address names, where it is one of the secret files."""
    named = next((database.options[key] for key in _AUTHORITIES if key in database.options), "")
    return door.authorities.get(named.removeprefix("/etc/secrets/"), "")


def _finding(database: Database, address: str, faults: Sequence[Unanswered], servers: int) -> Finding:
    """One finding a variable: an error when no server let us in, or when one refused the login."""
    called = _CALLED[database.server]
    names = (
        ", ".join(f"{host}:{port}" for host, port in database.hosts) if not database.srv else "its servers"
    )
    if not faults:
        login = "and accepts the login" if database.user or database.password.reveal() else "without a login"
        return Finding(
            "ok", f"{database.variable}: {called} at {names} lets the machine in {login}", where="env"
        )
    worst = next((each for each in faults if each.fault.kind == "login"), faults[0])
    what, cure = _words(database, worst, address)
    if worst.fault.kind in ("forbidden", "unprovable"):
        return Finding("warning", f"{database.variable}: {what}", cure, "env")
    some = len(faults) < servers and worst.fault.kind != "login"
    if some:
        what = f"{what} {servers - len(faults)} of its {servers} servers let the machine in."
    return Finding("warning" if some else "error", f"{database.variable}: {what}", cure, "env")


def _words(database: Database, worst: Unanswered, address: str) -> tuple[str, str]:
    """What happened, and what to do about it."""
    host, port, fault = worst
    called, place = _CALLED[database.server], f"{host}:{port}" if port else host
    mine = f"this machine's static address {address}" if address else "this machine's address"
    atlas = host.endswith(".mongodb.net")
    let_in = (
        f"Add {mine} at Atlas, under Network Access; `rehost atlas` does it by itself, with keys of Atlas's API."
        if atlas
        else f"Let {mine} in: in the database's access list, or the firewall before it."
    )
    if atlas and fault.kind in ("tls", "closed") and "certificate" not in fault.words:
        # What Atlas does with an address that is not on its list.
        return f"{place} breaks the connection off: most often the access list lacks the machine.", let_in
    said = {
        "host": (
            f"the machine finds no address for {host} ({fault.words}).",
            "Correct the host's name; a private name of the platform that the app leaves ends there.",
        ),
        "refused": (
            f"{place} refuses the connection: nothing listens there.",
            f"Correct the port; does {called} run, and does it listen to other machines?",
        ),
        "silent": (f"{place} does not answer: most often an access list that lacks the machine.", let_in),
        "closed": (
            f"{place}: {fault.words}.",
            f"Does {called} listen on this port, without TLS as the address says? {let_in}",
        ),
        "address": (f"{place} lets nobody in from the machine's address: {fault.words}.", let_in),
        "tls": (
            f"{place}: no TLS: {fault.words}.",
            "Correct what the address says of TLS, or the port.",
        ),
        "login": (
            f"{place} refuses the login: {fault.words}.",
            f"Correct user and password in {database.variable}.",
        ),
        "database": (
            f"{place} accepts the login, and not the database: {fault.words}.",
            "Correct the database's name, or make it.",
        ),
        "protocol": (f"{place}: {fault.words}.", f"Is this {called}, and is it well?"),
        "forbidden": (
            f"{place} was not tried: the machine's sshd forwards no connections.",
            "Allow it there for the ssh user (AllowTcpForwarding), or try the login by hand.",
        ),
        "unprovable": (f"{place} answers; {fault.words}.", "Try the login by hand."),
    }
    return said[fault.kind]


async def prove_all(door: Door, databases: Sequence[Database], seconds: float = SECONDS) -> list[Finding]:
    """A finding for each, in their order. Raises MachineError when the ssh connection breaks."""
    return list(await asyncio.gather(*(prove(door, each, seconds) for each in databases)))
