"""Load from four kinds of client at once; each counts every answer that is not the expected one.

No client asks twice for one answer, so whatever a release loses is seen. All run in one thread of this process: they
take what the processors give, without a pause between an answer and the next request.
"""

from __future__ import annotations

import asyncio
import json
import signal
import ssl
import statistics
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import httpx

from suite import Laptop, until

PATIENCE: Final = 30  # seconds; an answer that takes longer is a fault
TLS_NAME: Final = "load.example.com"
EXTRA_SERVER: Final = "load"
CADDY: Final = "http://localhost:2019"
CADDY_ROOT: Final = "/var/lib/caddy/.local/share/caddy/pki/authorities/local/root.crt"


class Target(NamedTuple):
    """expected: every body that a release under load may give. trust: the certificates of port 443."""

    address: str
    expected: frozenset[bytes]
    trust: ssl.SSLContext


Answer = tuple[int, bytes]
Ask = Callable[[], Awaitable[Answer]]


@dataclass
class Tally:
    """What one kind of client got. served: how often each expected body; seconds: how long each answer took."""

    served: Counter[bytes] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)

    @property
    def asked(self) -> int:
        return len(self.seconds)

    async def count(self, ask: Ask, expected: frozenset[bytes]) -> bool:
        """Asks once. False when the connection is of no use any more."""
        began = time.perf_counter()
        try:
            async with asyncio.timeout(PATIENCE):
                status, body = await ask()
        except (OSError, EOFError, httpx.HTTPError) as broken:  # TimeoutError is an OSError
            self.faults[f"{type(broken).__name__}: {broken}"] += 1
            return False
        else:
            if status == 200 and body in expected:
                self.served[body] += 1
            else:
                self.faults[f"{status} {body[:60]!r}"] += 1
            return True
        finally:
            self.seconds.append(time.perf_counter() - began)

    def __str__(self) -> str:
        if len(self.seconds) < 2:
            return f"{self.asked} asked, {dict(self.faults)}"
        hundredths = statistics.quantiles(self.seconds, n=100)
        return (
            f"{self.asked} asked, {self.faults.total()} failed, median {hundredths[49] * 1000:.0f} ms, "
            f"99 % within {hundredths[98] * 1000:.0f} ms, slowest {max(self.seconds) * 1000:.0f} ms"
            + "".join(f"\n    {count} x {what}" for what, count in self.faults.items())
        )


# -- HTTP/1.1 by hand: nothing is asked again behind our back ---------------------------------------------------


async def _get(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, keep: bool) -> Answer:
    kind = "keep-alive" if keep else "close"
    writer.write(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: {kind}\r\n\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = int(head.partition("content-length:")[2].partition("\r\n")[0])
    body = await reader.readexactly(length)
    if keep and "connection: close" in head:
        raise ConnectionError("the server closes a connection that was to be kept")
    return int(head.split(" ", 2)[1]), body


async def _connection_per_request(target: Target, tally: Tally, over: threading.Event) -> None:
    async def ask() -> Answer:
        reader, writer = await asyncio.open_connection(target.address, 80)
        try:
            return await _get(reader, writer, target.address, keep=False)
        finally:
            writer.close()

    while not over.is_set():
        await tally.count(ask, target.expected)


async def _keep_alive(target: Target, tally: Tally, over: threading.Event) -> None:
    """One connection as long as it lives. One that ends at any moment is a fault."""
    pipe: list[Any] = []

    async def ask() -> Answer:
        if not pipe:
            pipe.extend(await asyncio.open_connection(target.address, 80))
        return await _get(pipe[0], pipe[1], target.address, keep=True)

    while not over.is_set():
        if not await tally.count(ask, target.expected) and pipe:
            pipe[1].close()
            pipe.clear()
    if pipe:
        pipe[1].close()


# -- httpx: a pool of connections, and HTTP/2 -------------------------------------------------------------------


async def _through(
    client: httpx.AsyncClient, version: str, target: Target, tally: Tally, over: threading.Event
) -> None:
    async def ask() -> Answer:
        # Over TLS the name is checked against the certificate; the connection goes to the machine's address.
        got = await client.get("/", headers={"Host": TLS_NAME}, extensions={"sni_hostname": TLS_NAME})
        if got.http_version != version:
            raise httpx.ProtocolError(f"{got.http_version} was spoken, not {version}")
        return got.status_code, got.content

    while not over.is_set():
        await tally.count(ask, target.expected)


class Load:
    """All four kinds of client, for as long as the block lasts."""

    def __init__(self, target: Target, each: int = 4) -> None:
        """each: so many requests of each kind are under way at any moment."""
        self._target, self._each = target, each
        self.tallies = {kind: Tally() for kind in ("connection per request", "keep-alive", "HTTP/2", "pool")}
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all()))
        self._began = self._took = 0.0

    @property
    def asked(self) -> int:
        return sum(tally.asked for tally in self.tallies.values())

    def wait_for(self, asked: int, deadline: float) -> None:
        """Until so many were asked in all."""
        until(lambda: self.asked >= asked or not self._thread.is_alive(), f"{asked} requests", deadline)

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._took = time.monotonic() - self._began

    async def _all(self) -> None:
        limits = httpx.Limits(max_connections=self._each, max_keepalive_connections=self._each)
        async with (
            httpx.AsyncClient(
                base_url=f"https://{self._target.address}", http1=False, http2=True, trust_env=False,
                verify=self._target.trust,
            ) as two,
            httpx.AsyncClient(
                base_url=f"http://{self._target.address}", limits=limits, trust_env=False
            ) as pool,
        ):  # fmt: skip
            kinds: dict[str, Callable[[Tally], Awaitable[None]]] = {
                "connection per request": lambda to: _connection_per_request(self._target, to, self._over),
                "keep-alive": lambda to: _keep_alive(self._target, to, self._over),
                "HTTP/2": lambda to: _through(two, "HTTP/2", self._target, to, self._over),
                "pool": lambda to: _through(pool, "HTTP/1.1", self._target, to, self._over),
            }
            await asyncio.gather(
                *(act(self.tallies[kind]) for kind, act in kinds.items() for _ in range(self._each))
            )

    def served(self) -> Counter[bytes]:
        """How often each body came, all kinds together."""
        return sum((tally.served for tally in self.tallies.values()), Counter())

    def faults(self) -> dict[str, Counter[str]]:
        return {kind: tally.faults for kind, tally in self.tallies.items() if tally.faults}

    def __str__(self) -> str:
        rate = self.asked / self._took if self._took else 0.0
        return f"{self.asked} requests in {self._took:.0f} s, {rate:.0f} a second\n" + "\n".join(
            f"  {kind:<23} {tally}" for kind, tally in self.tallies.items()
        )


@contextmanager
def wrk(address: str) -> Iterator[list[str]]:
    """As many requests as wrk can make, over 16 connections that are kept. At the end of the block the list has what it
    said: a line with the number of requests and, when there were any, lines with errors (see `wrk_faults`)."""
    said: list[str] = []
    line = ["wrk", "-t1", "-c16", "-d1h", f"http://{address}/"]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield said
    finally:
        process.send_signal(signal.SIGINT)  # it tells what it has so far
        said += process.communicate(timeout=PATIENCE)[0].splitlines()


def wrk_faults(said: list[str]) -> list[str]:
    """A connection that was refused, an answer that broke off, one that was late, one that was not 2xx or 3xx."""
    assert any(" requests in " in line for line in said), said
    return [line.strip() for line in said if "Socket errors" in line or "Non-2xx" in line]


@contextmanager
def asked_all_the_time(address: str, *expected: bytes) -> Iterator[list[str]]:
    """One patient client, a connection per request. Yields what it got that was not expected: empty as long as all
    was well. At least one request is made."""
    wrong: list[str] = []
    over, begun = threading.Event(), threading.Event()

    def ask() -> None:
        while not (begun.is_set() and over.is_set()):
            try:
                got = httpx.get(f"http://{address}/", timeout=PATIENCE, trust_env=False)
                if got.status_code != 200 or got.content not in expected:
                    wrong.append(f"{got.status_code} {got.text[:80]}")
            except httpx.HTTPError as broken:
                wrong.append(f"{type(broken).__name__}: {broken}")
            begun.set()
            over.wait(0.02)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield wrong
    finally:
        over.set()
        thread.join()


# -- HTTP/2 takes TLS ---------------------------------------------------------------------------------------------


@contextmanager
def tls_beside(laptop: Laptop, app: str) -> Iterator[ssl.SSLContext]:
    """Port 443 of the machine's Caddy with the app's own route, under a certificate of Caddy's own authority.

    Putting it there and taking it away reloads Caddy; nothing between the two does, as rehost leaves other servers be.
    """
    before = json.loads(laptop.inside(f"curl -s {CADDY}/config/"))
    config = json.loads(json.dumps(before))
    servers = config["apps"]["http"]["servers"]
    route = next(
        found
        for server in servers.values()
        for found in server["routes"]
        if found.get("@id") == f"rehost-{app}"
    )
    servers[EXTRA_SERVER] = {
        "listen": [":443"],
        "automatic_https": {"disable_redirects": True},
        "routes": [{"match": [{"host": [TLS_NAME]}], "handle": route["handle"]}],
    }
    config["apps"]["tls"] = {
        "automation": {"policies": [{"subjects": [TLS_NAME], "issuers": [{"module": "internal"}]}]}
    }
    config["apps"]["pki"] = {"certificate_authorities": {"local": {"install_trust": False}}}
    _load(laptop, config)
    try:
        until(lambda: "BEGIN" in laptop.inside(f"cat {CADDY_ROOT} 2>/dev/null || true"), "Caddy's authority")
        yield ssl.create_default_context(cadata=laptop.inside(f"cat {CADDY_ROOT}"))
    finally:
        _load(laptop, before)


def _load(laptop: Laptop, config: dict[str, Any]) -> None:
    said = laptop.inside(
        f"curl -sS -H 'Content-Type: application/json' --data-binary @- {CADDY}/load <<'END'\n{json.dumps(config)}\nEND"
    )
    assert not said, f"Caddy did not take the configuration: {said}"
