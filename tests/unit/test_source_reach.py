"""Databases tried from the machine: what addresses say, what is said of failures, and logins that no lab server has.

PostgreSQL, Redis, MariaDB and a server of MongoDB's protocol are asked for real in tests/lab/test_reach.py.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import hmac
import struct
from collections import deque
from collections.abc import Callable
from pathlib import Path

import asyncssh
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from hypothesis import given
from hypothesis import strategies as st

from rehost.machine.ssh import NotOpened
from rehost.run.findings import Finding
from rehost.run.secret import Secret
from rehost.source import reach, reach_dns, reach_mongodb
from rehost.source.reach_pipe import Fault, Pipe
from rehost.source.reach_scram import Scram, prepared
from rehost.source.reach_url import Database, databases
from ssh_here import Door, asynced, machine

PASSWORD = "hunter2 ü"


class Wire:
    """A connection whose other side is a function: what it is sent to what it answers, None to hang up."""

    def __init__(self, answer: Callable[[bytes], bytes | None], greeting: bytes = b"") -> None:
        self._answer = answer
        self._ready = deque([greeting] if greeting else [])
        self.closed = False

    async def read(self, most: int) -> bytes:
        return self._ready.popleft()[:most] if self._ready else b""

    async def write(self, data: bytes) -> None:
        if answer := self._answer(data):
            self._ready.append(answer)

    def close(self) -> None:
        self.closed = True


def one(url: str) -> Database:
    (found,) = databases({"URL": Secret(url)})
    return found


def door(*wires: Wire | Exception, resolv_conf: str = "nameserver 192.0.2.53\n") -> reach.Door:
    ahead = deque(wires)

    async def dial(_host: str, _port: int) -> Wire:
        found = ahead.popleft()
        if isinstance(found, Exception):
            raise found
        return found

    async def resolver() -> str:
        return resolv_conf

    return reach.Door(dial, resolver, "203.0.113.9")


# -- addresses ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "server", "hosts", "user", "password", "path"),
    [
        (
            "postgres://u:p%40w@db.example.com/shop",
            "postgresql",
            [("db.example.com", 5432)],
            "u",
            "p@w",
            "shop",
        ),
        ("postgresql+asyncpg://u@h.example:1/", "postgresql", [("h.example", 1)], "u", "", ""),
        ("mysql2://u:p@[2001:db8::1]:3307/x?a=b", "mysql", [("2001:db8::1", 3307)], "u", "p", "x"),
        ("mariadb+pymysql://u:p@h.example/x", "mysql", [("h.example", 3306)], "u", "p", "x"),
        ("rediss://:p@h.example", "redis", [("h.example", 6379)], "", "p", ""),
        (
            "mongodb://u:p@a.example,b.example:2/x",
            "mongodb",
            [("a.example", 27017), ("b.example", 2)],
            "u",
            "p",
            "x",
        ),
        ("mongodb+srv://u:a@b@c.mongodb.net/x", "mongodb", [("c.mongodb.net", 0)], "u", "a@b", "x"),
        (" REDIS://h.example \n", "redis", [("h.example", 6379)], "", "", ""),
    ],
)
def test_an_address_is_taken_apart(
    url: str, server: str, hosts: list[tuple[str, int]], user: str, password: str, path: str
) -> None:
    found = one(url)
    assert (found.server, list(found.hosts), found.user, found.path) == (server, hosts, user, path)
    assert found.password.reveal() == password
    assert (found.srv, found.tls) == ("+srv" in url, url.startswith("rediss"))
    assert "password=Secret(***)" in repr(found)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "https://h.example",
        "postgres://",
        "postgres:///x?host=/run/pg",
        "redis://h:99999",
        "see redis://h.example",
    ],
)
def test_what_is_no_address_is_none(value: str) -> None:
    assert databases({"URL": Secret(value)}) == ()


@given(st.text(max_size=60))
def test_no_value_breaks_the_reading(text: str) -> None:
    for scheme in ("postgres://", "mongodb+srv://u:", "rediss://"):
        databases({"URL": Secret(scheme + text)})


def test_what_only_a_container_can_ask_is_known() -> None:
    inside = (
        "redis://cache:6379",
        "redis://localhost",
        "redis://127.0.0.1",
        "redis://[::1]:1",
        "postgres://h.localhost",
    )
    assert [one(url).inside for url in inside] == [True] * 5
    assert [one(url).inside for url in ("redis://10.0.0.4", "mongodb://cache,h.example/x")] == [False] * 2


# -- SCRAM -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("digest", "nonce", "server_first", "proof", "server_final"),
    [
        (  # RFC 5802, section 5
            "sha1",
            "fyko+d2lbbFgONRv9qkxdawL",
            b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
            b"v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
            b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
        ),
        (  # RFC 7677, section 3
            "sha256",
            "rOprNGfwEbeRWgbNEkqO",
            b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            b"dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
            b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
        ),
    ],
)
def test_scram_as_the_standards_show_it(
    digest: str, nonce: str, server_first: bytes, proof: bytes, server_final: bytes
) -> None:
    login = Scram(digest, "user", "pencil", nonce)  # type: ignore[arg-type]
    assert login.first() == f"n,,n=user,r={nonce}".encode()
    assert login.final(server_first).endswith(b",p=" + proof)
    login.confirm(server_final)
    with pytest.raises(Fault, match="this is not the database"):
        login.confirm(b"v=" + base64.b64encode(b"x"))
    with pytest.raises(Fault, match="does not accept"):
        login.confirm(b"e=invalid-proof")


@pytest.mark.parametrize(
    "said", [b"", b"r=other,s=QQ==,i=4096", b"r=n,s=QQ==,i=99999999999", b"r=n,s=QQ==,i=0", b"x"]
)
def test_a_server_that_speaks_no_scram_is_told(said: bytes) -> None:
    with pytest.raises(Fault, match="not understood"):
        Scram("sha256", "u", "p", "n").final(said)


def test_passwords_are_prepared_as_rfc_4013_shows() -> None:
    assert [prepared(each) for each in ("I\u00adX", "\u2168", "\u00aa", "us er", "a\u00a0b")] == [
        *("IX", "IX", "a", "us er", "a b")
    ]
    assert prepared("a\u0007ü") == "a\u0007ü"  # forbidden: taken as it is


# -- MongoDB -----------------------------------------------------------------------------------------------


class Mongo:
    """A server that knows one user, by both kinds of SCRAM; what it checks is computed here anew."""

    def __init__(self, *known: str) -> None:
        self.known = known
        self.commands: list[str] = []
        self._first = b""

    def __call__(self, data: bytes) -> bytes:
        command = reach_mongodb.decode(data[21:])
        self.commands.append(next(iter(command)))
        body = reach_mongodb.encode({**self._answer(command), "ok": 1})
        body = body.replace(b"\x03sasl", b"\x04sasl")  # a list
        body = body.replace(b"\x10ok\0\1\0\0\0", b"\x01ok\0" + struct.pack("<d", 1.0))
        body = struct.pack("<i", len(body)) + body[4:]
        return struct.pack("<iiiiIB", len(body) + 21, 1, 1, 2013, 0, 0) + body

    def _answer(self, command: dict[str, reach_mongodb.Value]) -> dict[str, reach_mongodb.Value]:
        if "hello" in command:
            assert command["saslSupportedMechs"] == "shop.app"
            mechanisms: dict[str, reach_mongodb.Value] = {str(n): name for n, name in enumerate(self.known)}
            return {"saslSupportedMechs": mechanisms} if self.known else {}
        payload = command["payload"]
        assert isinstance(payload, bytes)
        if "saslStart" in command:
            assert command["mechanism"] == (self.known or ("SCRAM-SHA-1",))[0]
            self._first = payload.removeprefix(b"n,,") + b"," + self._greeting(payload)
            return {"conversationId": 7, "payload": self._greeting(payload), "done": False}
        if not payload:
            return {"conversationId": 7, "payload": b"", "done": True}
        return {"conversationId": 7, "payload": self._checked(payload), "done": False}

    @staticmethod
    def _greeting(payload: bytes) -> bytes:
        return b"r=" + payload.rpartition(b"r=")[2] + b"more,s=c2FsdA==,i=4096"

    def _checked(self, payload: bytes) -> bytes:
        newer = "SCRAM-SHA-256" in self.known
        digest = "sha256" if newer else "sha1"
        secret = PASSWORD.encode()
        if not newer:
            secret = hashlib.md5(b"app:mongo:" + secret, usedforsecurity=False).hexdigest().encode()
        salted = hashlib.pbkdf2_hmac(digest, secret, b"salt", 4096)
        without, _, proof = payload.rpartition(b",p=")
        text = self._first + b"," + without
        client = hmac.new(salted, b"Client Key", digest).digest()
        signature = hmac.new(hashlib.new(digest, client).digest(), text, digest).digest()
        good = bytes(a ^ b for a, b in zip(client, signature, strict=True)) == base64.b64decode(proof)
        if not good:
            return b"e=invalid-proof"
        server = hmac.new(salted, b"Server Key", digest).digest()
        return b"v=" + base64.b64encode(hmac.new(server, text, digest).digest())


@pytest.mark.parametrize("known", [("SCRAM-SHA-256",), ()])
@asynced
async def test_mongodb_logs_in_by_the_kind_that_the_server_knows(known: tuple[str, ...]) -> None:
    server = Mongo(*known)
    url = "mongodb://app:hunter2%20%C3%BC@h.example/shop"
    found = await reach.prove(door(Wire(server)), one(url))
    assert (found.severity, server.commands) == ("ok", ["hello", "saslStart", "saslContinue", "saslContinue"])
    wrong = await reach.prove(door(Wire(Mongo(*known))), one(url.replace("hunter2", "hunter3")))
    assert wrong.severity == "error" and "refuses the login" in wrong.what
    assert "hunter" not in f"{found}{wrong}"


@given(st.binary(max_size=40))
def test_no_answer_breaks_the_reading_of_bson(data: bytes) -> None:
    whole = struct.pack("<i", len(data) + 5) + data + b"\0"
    for each in (data, whole):
        with contextlib.suppress(ValueError, struct.error, IndexError):  # what `_ask` calls no MongoDB
            reach_mongodb.decode(each)


# -- MySQL's caching_sha2_password, which MariaDB does not have ---------------------------------------------

CHALLENGE = bytes(range(1, 21))


def packet(number: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "little") + bytes([number]) + body


@functools.cache
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def mysql(cached: bool, password: str = PASSWORD) -> tuple[Wire, list[bytes]]:
    """A server of MySQL 8 without TLS. cached: it has seen the password before."""
    key = rsa_key()
    pem = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    seen: list[bytes] = []

    def answer(data: bytes) -> bytes | None:
        seen.append(data)
        body = data[4:]
        if len(seen) == 1:
            once = hashlib.sha256(password.encode()).digest()
            mask = hashlib.sha256(hashlib.sha256(once).digest() + CHALLENGE).digest()
            if bytes(a ^ b for a, b in zip(once, mask, strict=True)) not in body:
                return packet(2, b"\xff" + struct.pack("<H", 1045) + b"#28000Access denied")
            return packet(2, b"\1\3") + packet(3, b"\0\0\0") if cached else packet(2, b"\1\4")
        if body == b"\2":
            return packet(data[3] + 1, b"\1" + pem)
        if len(seen) == 3:
            sha1 = hashes.SHA1()  # noqa: S303  # what the protocol says
            plain = key.decrypt(body, padding.OAEP(padding.MGF1(sha1), sha1, None))
            repeated = (CHALLENGE * 2)[: len(plain)]
            assert bytes(a ^ b for a, b in zip(plain, repeated, strict=True)) == password.encode() + b"\0"
            return packet(data[3] + 1, b"\0\0\0")
        return None

    capabilities = 0x81A201 & ~0x800 | 0x80000
    low, high = capabilities & 0xFFFF, capabilities >> 16
    greeting = (
        b"\x0a8.0.36\0"
        + struct.pack("<I", 9)
        + CHALLENGE[:8]
        + b"\0"
        + struct.pack("<HBHH", low, 45, 2, high)
    )
    greeting += bytes([21]) + bytes(10) + CHALLENGE[8:] + b"\0" + b"caching_sha2_password\0"
    return Wire(answer, packet(0, greeting)), seen


@pytest.mark.parametrize("cached", [True, False])
@asynced
async def test_mysql_8_logs_in_with_and_without_a_password_that_it_knows(cached: bool) -> None:
    wire, seen = mysql(cached)
    found = await reach.prove(door(wire), one("mysql://app:hunter2%20%C3%BC@h.example/shop"))
    assert found.severity == "ok", found
    assert len(seen) == (2 if cached else 4)  # with the farewell
    assert PASSWORD.encode() not in b"".join(seen)
    assert wire.closed
    wire, _ = mysql(cached, "another")
    found = await reach.prove(door(wire), one("mysql://app:hunter2@h.example/shop"))
    assert "refuses the login: Access denied" in found.what


# -- names behind SRV --------------------------------------------------------------------------------------


def name_server(data: bytes) -> bytes:
    """One SRV record, whose names point at the question; one TXT record in two parts."""
    (number,) = struct.unpack_from("!H", data, 2)
    kind = struct.unpack_from("!H", data, len(data) - 4)[0]
    at = 12 + 1 + len("_mongodb") + 1 + len("_tcp")
    record = {
        33: struct.pack("!HHH", 0, 0, 27018) + b"\1a" + struct.pack("!H", 0xC000 | at),
        16: b"\5tls=f\4alse",
    }[kind]
    answer = struct.pack("!6H", number, 0x8180, 1, 1, 0, 0) + data[14:]
    answer += b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 60, len(record)) + record
    return struct.pack("!H", len(answer)) + answer


@asynced
async def test_the_servers_and_options_behind_srv() -> None:
    refused = NotOpened("Connection refused")
    names = Wire(name_server)
    two = door(refused, names, refused, resolv_conf="nameserver 192.0.2.1\nnameserver 192.0.2.2\n")
    found = await reach.prove(two, one("mongodb+srv://u:p@c.example.net/x"))
    assert "a.c.example.net:27018 refuses the connection" in found.what
    assert names.closed


@asynced
async def test_a_name_server_that_does_not_answer_is_told() -> None:
    found = await reach.prove(door(NotOpened("Connection refused")), one("mongodb+srv://u:p@c.example.net/x"))
    assert "the machine's name servers do not answer" in found.what


@given(st.binary(max_size=60))
def test_no_answer_breaks_the_reading_of_names(data: bytes) -> None:
    @asynced
    async def ask() -> None:
        pipe = Pipe(Wire(lambda _: struct.pack("!H", len(data)) + data))
        with pytest.raises(Fault):
            await reach_dns.servers(pipe, "c.example.net")

    ask()


# -- words -------------------------------------------------------------------------------------------------


async def said(fault: Exception, url: str = "postgres://u:p@h.example/x") -> Finding:
    return await reach.prove(door(fault), one(url))


@pytest.mark.parametrize(
    ("words", "what", "cure"),
    [
        ("Connection refused", "nothing listens there", "Correct the port"),
        ("Connection timed out", "does not answer", "this machine's static address 203.0.113.9"),
        ("Name or service not known", "finds no address for h.example", "Correct the host's name"),
        ("Temporary failure in name resolution", "finds no address for h.example", "Correct the host's name"),
        ("No route to host", "No route to host", "203.0.113.9"),
    ],
)
@asynced
async def test_the_machines_words_are_sorted(words: str, what: str, cure: str) -> None:
    found = await said(NotOpened(words))
    assert (found.severity, found.where) == ("error", "env")
    assert what in found.what and cure in found.cure


@asynced
async def test_a_machine_that_forwards_nothing_leaves_it_unproved() -> None:
    found = await said(NotOpened("", forbidden=True))
    assert found.severity == "warning" and "AllowTcpForwarding" in found.cure


@asynced
async def test_one_server_of_several_is_enough_to_go_on() -> None:
    url = "mongodb://a.example,b.example/x"

    def good(_data: bytes) -> bytes:
        body = reach_mongodb.encode({"ok": 1})
        return struct.pack("<iiiiIB", len(body) + 21, 1, 1, 2013, 0, 0) + body

    found = await reach.prove(door(NotOpened("Connection refused"), Wire(good)), one(url))
    assert found.severity == "warning" and "1 of its 2 servers let the machine in" in found.what
    both = await reach.prove(door(NotOpened("Connection refused"), NotOpened("Connection refused")), one(url))
    assert both.severity == "error"


@asynced
async def test_atlas_breaks_off_what_is_not_on_its_list() -> None:
    found = await reach.prove(door(Wire(lambda _: None)), one("mongodb://u:p@a-00.mongodb.net/x?tls=true"))
    assert "the access list lacks the machine" in found.what
    assert found.cure.startswith(
        "Add this machine's static address 203.0.113.9 at Atlas, under Network Access"
    )


@pytest.mark.parametrize(
    "url", ["postgres://u:p@h.example/x", "redis://h.example", "mysql://h.example/x", "mongodb://h.example"]
)
@asynced
async def test_another_server_on_the_port_is_told(url: str) -> None:
    web = b"HTTP/1.1 400 Bad Request\r\n\r\n" * 400000
    found = await reach.prove(door(Wire(lambda _: web, web)), one(url))
    assert found.severity == "error"
    assert "it is no" in found.what or "not one of this kind" in found.what


@given(
    st.sampled_from(
        ["postgres://u:p@h.example/x?sslmode=disable", "redis://:p@h.example", "mysql://u:p@h.example/x"]
    ),
    st.lists(
        st.sampled_from([b"R", b"E", b"\0\0\0", b"\0\0\0\x08", b"\x0a", b"\xff", b"+", b"\r\n"])
        | st.binary(max_size=9)
    ),
)
def test_no_answer_breaks_a_login(url: str, parts: list[bytes]) -> None:
    @asynced
    async def ask() -> None:
        said = b"".join(parts)
        found = await reach.prove(door(Wire(lambda _: said, said)), one(url))
        assert found.what.startswith("URL: ")

    ask()


@pytest.mark.parametrize("name", ["a..example", f"{'a' * 64}.example"])
@asynced
async def test_a_cluster_whose_name_is_none_is_told(name: str) -> None:
    found = await reach.prove(door(Wire(name_server)), one(f"mongodb+srv://{name}/x"))
    assert "is not the name of a host" in found.what


@asynced
async def test_a_redis_that_speaks_tls_is_recognised() -> None:
    found = await reach.prove(door(Wire(lambda _: b"\x15\x03\x01\x00\x02\x02\x46")), one("redis://h.example"))
    assert "begins with redis:// instead of rediss://" in found.what


@asynced
async def test_what_an_sshd_says_of_a_connection_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with machine(tmp_path) as (opened, _):
        with pytest.raises(NotOpened, match="Connection refused") as closed:
            await opened.tcp("127.0.0.1", 1)
        assert not closed.value.forbidden

        def forbid(*_: object) -> bool:
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, "open failed")

        monkeypatch.setattr(Door, "connection_requested", forbid)
        with pytest.raises(NotOpened) as closed:
            await opened.tcp("127.0.0.1", 1)
        assert closed.value.forbidden
