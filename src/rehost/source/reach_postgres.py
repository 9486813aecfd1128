"""PostgreSQL's login (documentation, "Frontend/Backend Protocol", version 3.0)."""

from __future__ import annotations

import hashlib
import struct
from typing import Final

from rehost.source.reach_pipe import Fault, Pipe, context
from rehost.source.reach_scram import Scram, prepared
from rehost.source.reach_url import Database

_PROTOCOL: Final = 196608  # 3.0
_SSL_REQUEST: Final = 80877103


async def login(pipe: Pipe, database: Database, host: str, authority: str) -> None:
    """Logs in and leaves. authority: see `reach_pipe.context`. Raises Fault."""
    await _secure(pipe, database, host, authority)
    user = database.user or database.options.get("user", "")
    name = database.path or database.options.get("dbname", "") or user
    words = [b"user", user.encode(), b"database", name.encode(), b"application_name", b"rehost", b"", b""]
    body = struct.pack("!i", _PROTOCOL) + b"\0".join(words)[:-1] + b"\0"
    await pipe.send(struct.pack("!i", len(body) + 4) + body)
    scram: Scram | None = None
    password = database.password.reveal() or database.options.get("password", "")
    while True:
        kind, body = await _message(pipe)
        if kind == b"E":
            raise _refused(body)
        if kind == b"R":
            scram = await _authenticate(pipe, body, user, password, scram)
        if kind == b"Z":
            await pipe.send(b"X\0\0\0\4")
            return


async def _secure(pipe: Pipe, database: Database, host: str, authority: str) -> None:
    """libpq's modes; drivers of other languages say `ssl` and take the same words or true."""
    options = database.options
    mode = (options.get("sslmode") or options.get("ssl") or "prefer").lower()
    if mode in ("disable", "false", "0"):
        return
    await pipe.send(struct.pack("!ii", 8, _SSL_REQUEST))
    answer = await pipe.exactly(1)
    if answer == b"S":
        verified = mode in ("verify-ca", "verify-full", "true") or options.get("sslrootcert") == "system"
        made = context(verified=verified, authority=authority)
        made.check_hostname = verified and mode != "verify-ca"
        await pipe.secure(made, host)
    elif answer != b"N":
        raise Fault("protocol", "it is no PostgreSQL")
    elif mode not in ("prefer", "allow"):
        raise Fault("tls", "it offers no TLS, and the address demands it")


async def _message(pipe: Pipe) -> tuple[bytes, bytes]:
    kind = await pipe.exactly(1)
    (length,) = struct.unpack("!i", await pipe.exactly(4))
    if length < 4:
        raise Fault("protocol", "it is no PostgreSQL")
    return kind, await pipe.exactly(length - 4)


async def _authenticate(
    pipe: Pipe, body: bytes, user: str, password: str, scram: Scram | None
) -> Scram | None:
    (method,) = struct.unpack("!i", body[:4])
    rest = body[4:]
    if method == 0:
        return scram
    if not password:
        raise Fault("login", "it demands a password, and the address has none")
    if method == 3:
        await _send(pipe, password.encode() + b"\0")
    elif method == 5:
        inner = hashlib.md5(password.encode() + user.encode(), usedforsecurity=False).hexdigest()
        outer = hashlib.md5(inner.encode() + rest[:4], usedforsecurity=False).hexdigest()
        await _send(pipe, b"md5" + outer.encode() + b"\0")
    elif method == 10 and b"SCRAM-SHA-256" in rest.split(b"\0"):
        # The user stands in the startup message; the name in SCRAM is not looked at.
        scram = Scram("sha256", "", prepared(password))
        first = scram.first()
        await _send(pipe, b"SCRAM-SHA-256\0" + struct.pack("!i", len(first)) + first)
    elif method == 11 and scram is not None:
        await _send(pipe, scram.final(rest))
    elif method == 12 and scram is not None:
        scram.confirm(rest)
    else:
        raise Fault("unprovable", f"it wants a kind of login that rehost does not know (number {method})")
    return scram


async def _send(pipe: Pipe, body: bytes) -> None:
    await pipe.send(b"p" + struct.pack("!i", len(body) + 4) + body)


def _refused(body: bytes) -> Fault:
    """An ErrorResponse: fields of a letter and text (same documentation, "Error and Notice Message Fields")."""
    fields = {part[:1]: part[1:].decode(errors="replace") for part in body.split(b"\0") if part}
    code, words = fields.get(b"C", ""), fields.get(b"M", "no reason given")
    if "pg_hba.conf" in words:
        return Fault("address", words)
    if code.startswith("28"):
        return Fault("login", words)
    if code == "3D000":
        return Fault("database", words)
    return Fault("protocol", f"it answers: {words}")
