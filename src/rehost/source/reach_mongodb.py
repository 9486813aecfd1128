"""MongoDB's login: OP_MSG with as much BSON as a handshake needs (MongoDB's wire protocol, bsonspec.org)."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from typing import Final, TypeAlias

from rehost.source.reach_pipe import Fault, Pipe, context
from rehost.source.reach_scram import Scram, prepared
from rehost.source.reach_url import Database

_OP_MSG: Final = 2013
_AUTHENTICATION_FAILED: Final = (18, 8000)  # 8000: Atlas's own
Value: TypeAlias = "int | float | str | bytes | dict[str, Value] | list[Value] | None"
Document: TypeAlias = "Mapping[str, Value]"


async def login(pipe: Pipe, database: Database, host: str, authority: str) -> None:
    """Says hello, logs in where the address has a user. Raises Fault."""
    options = database.options
    if _true(options.get("tls", options.get("ssl", "true" if database.srv else "false"))):
        loose = _true(options.get("tlsallowinvalidcertificates", options.get("tlsinsecure", "false")))
        made = context(verified=not loose, authority=authority)
        if _true(options.get("tlsallowinvalidhostnames", "false")):
            made.check_hostname = False
        await pipe.secure(made, host)
    source = options.get("authsource") or database.path or "admin"
    hello: dict[str, Value] = {"hello": 1}
    if database.user:
        hello["saslSupportedMechs"] = f"{source}.{database.user}"
    answer = await _ask(pipe, {**hello, "$db": "admin"})
    if not database.user:
        await _ask(pipe, {"ping": 1, "$db": "admin"})
        return
    known = answer.get("saslSupportedMechs")
    named = options.get("authmechanism", "")
    # The rule of MongoDB's drivers ("Authentication", default mechanism).
    default = "SCRAM-SHA-256" if isinstance(known, list) and "SCRAM-SHA-256" in known else "SCRAM-SHA-1"
    await _scram(pipe, named or default, source, database)


def _true(written: str) -> bool:
    return written.lower() in ("true", "1", "yes")


async def _scram(pipe: Pipe, mechanism: str, source: str, database: Database) -> None:
    user, password = database.user, database.password.reveal()
    if mechanism == "SCRAM-SHA-256":
        scram = Scram("sha256", user, prepared(password))
    elif mechanism == "SCRAM-SHA-1":
        digest = hashlib.md5(f"{user}:mongo:{password}".encode(), usedforsecurity=False).hexdigest()
        scram = Scram("sha1", user, digest)
    else:
        raise Fault("unprovable", f"it wants a kind of login that rehost does not know ({mechanism})")
    begun = await _ask(
        pipe,
        {
            "saslStart": 1,
            "mechanism": mechanism,
            "payload": scram.first(),
            "options": {"skipEmptyExchange": True},
            "$db": source,
        },
    )
    said = await _go_on(pipe, begun, scram.final(_payload(begun)), source)
    scram.confirm(_payload(said))
    while said.get("done") is not True:
        said = await _go_on(pipe, begun, b"", source)


async def _go_on(pipe: Pipe, begun: Document, payload: bytes, source: str) -> Document:
    conversation = begun.get("conversationId", 1)
    return await _ask(
        pipe, {"saslContinue": 1, "conversationId": conversation, "payload": payload, "$db": source}
    )


def _payload(answer: Document) -> bytes:
    found = answer.get("payload")
    if not isinstance(found, bytes):
        raise Fault("protocol", "its answer to the login is not understood")
    return found


async def _ask(pipe: Pipe, command: Document) -> Document:
    """One command. Raises Fault for an answer that is not ok."""
    body = struct.pack("<IB", 0, 0) + encode(command)
    await pipe.send(struct.pack("<iiii", len(body) + 16, 1, 0, _OP_MSG) + body)
    length, _, _, operation = struct.unpack("<iiii", await pipe.exactly(16))
    if operation != _OP_MSG or length < 21:
        raise Fault("protocol", "it is no MongoDB")
    try:
        answer = decode((await pipe.exactly(length - 16))[5:])
    except (ValueError, struct.error, IndexError) as wrong:
        raise Fault("protocol", "it is no MongoDB") from wrong
    if answer.get("ok") != 1:
        words = str(answer.get("errmsg") or "no reason given")
        raise Fault("login" if answer.get("code") in _AUTHENTICATION_FAILED else "protocol", words)
    return answer


def encode(document: Document) -> bytes:
    """BSON of whole numbers, truth values, text, bytes and documents."""
    body = b""
    for name, value in document.items():
        key = name.encode() + b"\0"
        if isinstance(value, bool):
            body += b"\x08" + key + bytes([value])
        elif isinstance(value, int):
            body += b"\x10" + key + struct.pack("<i", value)
        elif isinstance(value, str):
            text = value.encode() + b"\0"
            body += b"\x02" + key + struct.pack("<i", len(text)) + text
        elif isinstance(value, bytes):
            body += b"\x05" + key + struct.pack("<iB", len(value), 0) + value
        elif isinstance(value, dict):
            body += b"\x03" + key + encode(value)
        else:
            raise TypeError(f"{name}: no command holds {type(value).__name__}")
    return struct.pack("<i", len(body) + 5) + body + b"\0"


# The lengths of types whose values don't matter: ObjectId, date, timestamp, Decimal128, ...
_SKIPPED: Final = {0x06: 0, 0x07: 12, 0x09: 8, 0x11: 8, 0x13: 16, 0x7F: 0, 0xFF: 0}


def decode(data: bytes) -> dict[str, Value]:
    """The document. Raises ValueError, struct.error or IndexError for what is none."""
    (length,) = struct.unpack_from("<i", data)
    end = length - 1
    if length < 5 or length > len(data) or data[end]:
        raise ValueError("not a document")
    found: dict[str, Value] = {}
    at = 4
    while at < end:
        kind = data[at]
        close = data.index(b"\0", at + 1)
        name, at = data[at + 1 : close].decode(errors="replace"), close + 1
        found[name], at = _value(kind, data, at)
    return found


def _value(kind: int, data: bytes, at: int) -> tuple[Value, int]:
    """A value, and where the next element begins."""
    if kind == 0x01:
        return struct.unpack_from("<d", data, at)[0], at + 8
    if kind == 0x08:
        return data[at] == 1, at + 1
    if kind == 0x0A:
        return None, at
    if kind == 0x10:
        return struct.unpack_from("<i", data, at)[0], at + 4
    if kind == 0x12:
        return struct.unpack_from("<q", data, at)[0], at + 8
    if kind in _SKIPPED:
        return None, at + _SKIPPED[kind]
    (length,) = struct.unpack_from("<i", data, at)
    if length < 0:
        raise ValueError("not a document")
    if kind == 0x02:
        return data[at + 4 : at + 3 + length].decode(errors="replace"), at + 4 + length
    if kind == 0x05:
        return data[at + 5 : at + 5 + length], at + 5 + length
    if kind in (0x03, 0x04):
        inner = decode(data[at : at + length])
        return (list(inner.values()) if kind == 0x04 else inner), at + length
    raise ValueError("a kind of value that no handshake has")
