"""The login of MySQL and MariaDB (MySQL's internals documentation, "Connection Phase")."""

from __future__ import annotations

import hashlib
import struct
from typing import Final, NamedTuple

from rehost.source.reach_pipe import Fault, Pipe, context
from rehost.source.reach_url import Database

# Capabilities: long password, protocol 4.1, transactions, secure connection, plugin names.
_CAPABILITIES: Final = 0x1 | 0x200 | 0x2000 | 0x8000 | 0x80000
_WITH_DATABASE: Final = 0x8
_TLS: Final = 0x800
_UTF8: Final = 45  # utf8mb4_general_ci
_LOGIN_ERRORS: Final = (1045, 1698, 1820, 1862, 3118)
_ADDRESS_ERRORS: Final = (1129, 1130)  # the host is blocked, or not allowed
_DATABASE_ERRORS: Final = (1044, 1049)


class _Greeting(NamedTuple):
    capabilities: int
    challenge: bytes
    plugin: str


class _Packets:
    """Packets with their running number."""

    def __init__(self, pipe: Pipe) -> None:
        self.pipe = pipe
        self._number = 0

    async def read(self) -> bytes:
        head = await self.pipe.exactly(4)
        self._number = (head[3] + 1) % 256
        body = await self.pipe.exactly(int.from_bytes(head[:3], "little"))
        if body[:1] == b"\xff":
            raise _refused(body)
        return body

    async def send(self, body: bytes) -> None:
        await self.pipe.send(len(body).to_bytes(3, "little") + bytes([self._number]) + body)
        self._number = (self._number + 1) % 256


async def login(pipe: Pipe, database: Database, host: str, authority: str) -> None:
    """Logs in and leaves. Raises Fault."""
    packets = _Packets(pipe)
    greeting = _greeting(await packets.read())
    capabilities = _CAPABILITIES | (_WITH_DATABASE if database.path else 0)
    wanted, verified = _tls(database)
    if wanted and greeting.capabilities & _TLS:
        capabilities |= _TLS
        await packets.send(_head(capabilities))
        await pipe.secure(context(verified=verified, authority=authority), host)
    elif wanted == "demanded":
        raise Fault("tls", "it offers no TLS, and the address demands it")
    password = database.password.reveal().encode()
    answer = _answer(greeting.plugin, password, greeting.challenge, secured=pipe.secured)
    body = _head(capabilities) + database.user.encode() + b"\0" + bytes([len(answer)]) + answer
    body += database.path.encode() + b"\0" if database.path else b""
    await packets.send(body + greeting.plugin.encode() + b"\0")
    await _finish(packets, greeting, password)
    await pipe.send(b"\1\0\0\0\1")  # COM_QUIT


def _tls(database: Database) -> tuple[str, bool]:
    """Whether TLS is "wanted" or "demanded" ("": neither), and whether the certificate must be good."""
    options = database.options
    mode = next(
        (options[name] for name in ("ssl-mode", "sslmode", "ssl_mode", "tls", "ssl") if name in options), ""
    )
    mode = mode.lower().replace("-", "_")
    if mode in ("disabled", "false", "0", "skip_verify_disabled"):
        return "", False
    strict = mode in ("verify_ca", "verify_identity", "verify_full", "true") or "sslaccept" in options
    strict = strict and options.get("sslaccept", "strict") == "strict"
    return ("wanted" if mode in ("", "preferred", "prefer") else "demanded"), strict


def _head(capabilities: int) -> bytes:
    return struct.pack("<IIB23x", capabilities, 1 << 24, _UTF8)


def _greeting(body: bytes) -> _Greeting:
    """Protocol::HandshakeV10."""
    end = body.find(b"\0")
    fixed = body[end + 1 :]
    if body[:1] != b"\x0a" or end < 0 or len(fixed) < 31:
        raise Fault("protocol", "it is no MySQL")
    low, high = struct.unpack_from("<H", fixed, 13)[0], struct.unpack_from("<H", fixed, 18)[0]
    more = max(13, fixed[20] - 8)
    challenge = fixed[4:12] + fixed[31 : 31 + more].removesuffix(b"\0")
    plugin = fixed[31 + more :].partition(b"\0")[0].decode(errors="replace") or "mysql_native_password"
    return _Greeting(low | high << 16, challenge[:20], plugin)


def _answer(plugin: str, password: bytes, challenge: bytes, *, secured: bool) -> bytes:
    """The password as the plugin wants it proved."""
    if not password:
        return b""
    if plugin == "mysql_native_password":
        once = hashlib.sha1(password, usedforsecurity=False).digest()
        twice = hashlib.sha1(once, usedforsecurity=False).digest()
        return _xor(once, hashlib.sha1(challenge + twice, usedforsecurity=False).digest())
    if plugin == "caching_sha2_password":
        once = hashlib.sha256(password).digest()
        twice = hashlib.sha256(once).digest()
        return _xor(once, hashlib.sha256(twice + challenge).digest())
    if plugin == "mysql_clear_password" and secured:
        return password + b"\0"
    raise Fault("unprovable", f"it wants a kind of login that rehost does not know ({plugin})")


async def _finish(packets: _Packets, greeting: _Greeting, password: bytes) -> None:
    """What the server still wants, until it says OK."""
    challenge = greeting.challenge
    while True:
        body = await packets.read()
        if body[:1] == b"\0":
            return
        if body[:1] == b"\xfe":  # another plugin for this user
            plugin, _, data = body[1:].partition(b"\0")
            challenge = data.removesuffix(b"\0")[:20]
            name = plugin.decode(errors="replace")
            await packets.send(_answer(name, password, challenge, secured=packets.pipe.secured))
        elif body == b"\1\4":  # caching_sha2_password: the server has to see the password itself
            if packets.pipe.secured:
                await packets.send(password + b"\0")
            else:
                await packets.send(b"\2")
                await packets.send(_sealed(password, challenge, (await packets.read())[1:]))
        elif body != b"\1\3":
            raise Fault("protocol", "its answer to the login is not understood")


def _sealed(password: bytes, challenge: bytes, key: bytes) -> bytes:
    """The password under the server's public key ("Caching SHA-2 Pluggable Authentication")."""
    # Only a server that asks for it without TLS needs them.
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import padding, rsa  # noqa: PLC0415

    try:
        public = serialization.load_pem_public_key(key)
    except ValueError as wrong:
        raise Fault("protocol", "its public key is not understood") from wrong
    if not isinstance(public, rsa.RSAPublicKey):
        raise Fault("protocol", "its public key is not understood")
    repeated = (challenge * (len(password) // len(challenge) + 1))[: len(password) + 1]
    sha1 = hashes.SHA1()  # noqa: S303  # what the protocol says
    return public.encrypt(_xor(password + b"\0", repeated), padding.OAEP(padding.MGF1(sha1), sha1, None))


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


def _refused(body: bytes) -> Fault:
    """ERR_Packet. One that comes before the greeting has no SQL state."""
    (code,) = struct.unpack_from("<H", body, 1)
    text = body[3:]
    words = (text[6:] if text[:1] == b"#" else text).decode(errors="replace")
    if code in _ADDRESS_ERRORS:
        return Fault("address", words)
    if code in _LOGIN_ERRORS:
        return Fault("login", words)
    return Fault("database" if code in _DATABASE_ERRORS else "protocol", words)
