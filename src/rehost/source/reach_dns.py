"""SRV and TXT records, asked for where the machine itself asks: over TCP (RFC 1035, 4.2.2), by its own resolver.

mongodb+srv:// names no server: the servers stand in SRV records, some options in a TXT record (MongoDB's
"Initial DNS Seedlist Discovery").
"""

from __future__ import annotations

import re
import secrets
import struct
from typing import Final, NamedTuple

from rehost.source.reach_pipe import Fault, Pipe

_TYPES: Final = {"SRV": 33, "TXT": 16}
_NO_NAME: Final = 3  # RCODE NXDOMAIN


class Target(NamedTuple):
    """A server that an SRV record names."""

    host: str
    port: int


def nameservers(resolv_conf: str) -> list[str]:
    """The servers of a resolv.conf (resolv.conf(5)); this computer's own where none is named."""
    return re.findall(r"^nameserver\s+(\S+)", resolv_conf, re.MULTILINE) or ["127.0.0.1"]


async def servers(pipe: Pipe, name: str) -> list[Target]:
    """What the SRV records of a name say. Raises Fault where there are none."""
    found = []
    for data, at in await _ask(pipe, name, "SRV"):
        (port,) = struct.unpack_from("!H", data, at + 4)
        found.append(Target(_name(data, at + 6)[0], port))
    if not found:
        raise Fault("host", f"there is no SRV record {name}")
    return found


async def texts(pipe: Pipe, name: str) -> list[str]:
    """What the TXT records of a name say; none where there are none. Raises Fault."""
    found = []
    for data, at in await _ask(pipe, name, "TXT"):
        (length,) = struct.unpack_from("!H", data, at - 2)
        text, part = b"", at
        while part < at + length:
            text += data[part + 1 : part + 1 + data[part]]
            part += 1 + data[part]
        found.append(text.decode(errors="replace"))
    return found


def query(name: str, kind: str, number: int) -> bytes:
    """A question with recursion desired. Raises Fault for what is no name (RFC 1035, 2.3.4)."""
    if not all(0 < len(part.encode()) < 64 for part in name.split(".")):
        raise Fault("host", f"{name} is not the name of a host")
    labels = b"".join(bytes([len(each)]) + each for each in (part.encode() for part in name.split(".")))
    return (
        struct.pack("!6H", number, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", _TYPES[kind], 1)
    )


async def _ask(pipe: Pipe, name: str, kind: str) -> list[tuple[bytes, int]]:
    """The answer and where each record's data begins in it."""
    number = secrets.randbelow(1 << 16)
    question = query(name, kind, number)
    await pipe.send(struct.pack("!H", len(question)) + question)
    (length,) = struct.unpack("!H", await pipe.exactly(2))
    data = await pipe.exactly(length)
    try:
        return _records(data, number, name, _TYPES[kind])
    except (struct.error, IndexError, ValueError) as wrong:
        raise Fault(
            "host", f"the answer of the machine's name server about {name} is not understood"
        ) from wrong


def _records(data: bytes, number: int, name: str, wanted: int) -> list[tuple[bytes, int]]:
    answered, flags, questions, answers, _, _ = struct.unpack_from("!6H", data)
    if answered != number:
        raise ValueError("the answer to another question")
    code = flags & 15
    if code not in (0, _NO_NAME):
        raise Fault("host", f"the machine's name server fails about {name} (code {code})")
    at = 12
    for _ in range(questions):
        at = _name(data, at)[1] + 4
    found = []
    for _ in range(answers):
        at = _name(data, at)[1]
        kind, _, _, length = struct.unpack_from("!HHIH", data, at)
        at += 10
        if at + length > len(data):
            raise ValueError("cut off")
        if kind == wanted:
            found.append((data, at))
        at += length
    return found


def _name(data: bytes, at: int) -> tuple[str, int]:
    """A name, and where what follows it begins. Names point at each other (RFC 1035, 4.1.4)."""
    labels: list[str] = []
    end = 0
    for _ in range(128):
        length = data[at]
        if length >= 0xC0:
            end = end or at + 2
            at = struct.unpack_from("!H", data, at)[0] & 0x3FFF
        elif length == 0:
            return ".".join(labels), end or at + 1
        else:
            labels.append(data[at + 1 : at + 1 + length].decode("ascii", "replace"))
            at += 1 + length
    raise ValueError("a name without an end")
