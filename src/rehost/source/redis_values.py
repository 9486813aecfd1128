"""What the values of a Redis mean, whatever order, encoding or writing of numbers its server keeps them in. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

from rehost.source.resp import Command, Reply

READ: Final[dict[bytes, Callable[[bytes], Command]]] = {
    b"string": lambda key: ("GET", key),
    b"list": lambda key: ("LRANGE", key, 0, -1),
    b"set": lambda key: ("SMEMBERS", key),
    b"hash": lambda key: ("HGETALL", key),
    b"zset": lambda key: ("ZRANGE", key, 0, -1, "WITHSCORES"),
    b"stream": lambda key: ("XINFO", "STREAM", key, "FULL", "COUNT", 0),
}


def canonical(kind: bytes, reply: Reply) -> bytes | None:
    """A digest of what a value means, whatever order or encoding its server keeps. None: it is not of that kind."""
    if kind == b"string":
        return hashlib.sha1(reply, usedforsecurity=False).digest() if isinstance(reply, bytes) else None
    if not isinstance(reply, list):
        return None
    found: object = reply
    if kind == b"set":
        found = sorted(each for each in reply if isinstance(each, bytes))
    elif kind in (b"hash", b"zset"):
        pairs = [(name, value) for name, value in zip(reply[::2], reply[1::2], strict=True)
                 if isinstance(name, bytes) and isinstance(value, bytes)]  # fmt: skip
        found = sorted((name, float(value)) for name, value in pairs) if kind == b"zset" else sorted(pairs)
    elif kind == b"stream":
        found = _stream(reply)
    digest = hashlib.sha1(usedforsecurity=False)
    for part in found if isinstance(found, list) else [found]:
        # repr() delimits: no two values of these kinds have the same.
        digest.update(repr(part).encode())
    return digest.digest()


def _stream(reply: list[Reply]) -> list[object]:
    """What of XINFO STREAM FULL is content: versions tell of more or less besides, and of when consumers were seen."""
    told = _pairs(reply)
    groups = []
    for group in map(_pairs, _list(told.get(b"groups"))):
        consumers = sorted(
            (repr(one.get(b"name")), repr(one.get(b"pel") or one.get(b"pending")))
            for one in map(_pairs, _list(group.get(b"consumers")))
        )
        groups.append(
            (repr(group.get(b"name")), group.get(b"last-delivered-id"), group.get(b"pel"), consumers)
        )
    return [told.get(b"last-generated-id"), *_list(told.get(b"entries")), sorted(groups, key=repr)]


def _list(reply: Reply) -> list[Reply]:
    return reply if isinstance(reply, list) else []


def _pairs(reply: Reply) -> dict[Reply, Reply]:
    flat = _list(reply)
    return {
        name: value for name, value in zip(flat[::2], flat[1::2], strict=False) if isinstance(name, bytes)
    }
