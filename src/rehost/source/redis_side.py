"""One database of a Redis or Valkey, asked in pipelines by the commands that managed stores leave open."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

from rehost.run.errors import RehostError
from rehost.source.reach_pipe import Fault
from rehost.source.redis_values import READ, canonical
from rehost.source.resp import Client, Command, Reply, Wrong

# In the copy's database: what it is, see move_redis.py. It is no part of the content.
MARKER: Final = b"rehost:beside"
BATCH: Final = 2000  # keys that SCAN looks at in one step: 1 to 2 ms of the server's time
BATCHES: Final = 6  # at work at once, so that the line is full while answers are under way
CHUNK: Final = 1 << 20  # bytes of values in one pipeline, but for a value that is larger by itself
LARGEST: Final = 512 << 20  # proto-max-bulk-len: what RESTORE takes, unless the server is set to more
_UNKNOWN: Final = 1 << 16  # bytes that a value is taken for where MEMORY USAGE is not allowed
# The last 10 bytes of a payload are the version of the format and a checksum.
_FOOTER: Final = 10
# A server takes ten times as long for these digests as for the payloads, and stands still meanwhile: a call does some
# keys, fewer where they are large (the rest is asked for again), and none that is larger than a chunk.
_TOGETHER: Final = 16
_DIGEST: Final = f"""local told, spent = {{}}, 0
for at, key in ipairs(KEYS) do
  local size = redis.pcall('MEMORY', 'USAGE', key)
  if type(size) == 'number' and size > {CHUNK} then
    told[at] = 'large'
  else
    local found = redis.call('DUMP', key)
    if found then
      local digest = redis.sha1hex(string.sub(found, 1, -{_FOOTER + 1}))
      told[at] = digest .. string.format(' %%.0f', redis.call('%s', key))
      spent = spent + #found
    else
      told[at] = 'gone'
    end
  end
  if spent > {1 << 16} then break end
end
return told"""
# What Lua scripts have; the two sides are no adversaries.
_sha1: Final = functools.partial(hashlib.sha1, usedforsecurity=False)


class State(NamedTuple):
    """What a key holds: a digest of its payload, and when it expires (ms since 1970, -1: never)."""

    digest: bytes
    expiry: int


class NotAllowed(RehostError):
    """A server refused a command that the copy needs. words: the server's own."""

    def __init__(self, side: str, command: str, wrong: Wrong, key: bytes = b"") -> None:
        about = f" for {shown(key)}" if key else ""
        super().__init__(
            f"{side} refuses {command}{about}: {wrong.words}", cure=_cure(side, command, wrong), where=side
        )


def _cure(side: str, command: str, wrong: Wrong) -> str:
    words = wrong.words
    if wrong.code == "OOM":
        return "Raise the memory of the service (`memory`, and maxmemory in its command); then run it again."
    if "payload version" in words:
        return "Raise the image of the service to the version that the content comes from, or a later one."
    if "Bad data format" in words:
        return "Its type is unknown there: give the service an image with the same modules, no older."
    if wrong.code in ("NOPERM", "ERR") and ("permission" in words or "unknown" in words):
        return f"Allow {command} to the user of {side}, or move by what its provider offers for export."
    return f"See to {side}, then run the same command again: it sends only what is missing."


def shown(key: bytes) -> str:
    """A key in a message: its beginning, because what follows may be a session's token."""
    text = key.decode(errors="backslashreplace")
    head, colon, _ = text.partition(":")
    begun = f"{head[:16]}{colon}" if colon else text[:8]
    return f"the key {begun!r}" + ("" if begun == text else "...")


class Side:
    """One database of a server. label: what messages call it."""

    def __init__(self, client: Client, label: str) -> None:
        self.client = client
        self.label = label
        self.exact = True  # it tells when a key expires, not only how long it has left
        self._script = ""
        # One large value at a time is held here.
        self.large = asyncio.Lock()

    async def prepare(self) -> None:
        """Learns what the server offers. Raises Fault."""
        self.exact = not isinstance(await self.client.one("PEXPIRETIME", MARKER), Wrong)
        script = _DIGEST % ("PEXPIRETIME" if self.exact else "PTTL")
        if not isinstance(await self.client.one("EVAL", script, 0), Wrong):
            self._script = _sha1(script.encode()).hexdigest()

    async def size(self) -> int:
        return number(self.expected("DBSIZE", await self.client.one("DBSIZE")))

    def expected(self, command: str, reply: Reply, key: bytes = b"") -> Reply:
        """The same, unless it is an error. Raises NotAllowed."""
        if isinstance(reply, Wrong):
            raise NotAllowed(self.label, command, reply, key)
        return reply

    async def ask(self, command: str, keys: Sequence[bytes], *rest: str) -> list[Reply]:
        """One command for each key. Raises NotAllowed, Fault."""
        replies = await self.client.ask([(command, key, *rest) for key in keys])
        return [self.expected(command, reply, key) for key, reply in zip(keys, replies, strict=True)]

    async def batches(self, work: Callable[[list[bytes]], Awaitable[None]]) -> None:
        """Has the keys worked on as SCAN finds them, several batches at once. Raises what the work raises."""
        free = asyncio.Semaphore(BATCHES)

        async def one(keys: list[bytes]) -> None:
            try:
                await work(keys)
            finally:
                free.release()

        cursor: bytes = b""
        try:
            async with asyncio.TaskGroup() as tasks:
                while cursor != b"0":
                    await free.acquire()
                    found = await self.client.one("SCAN", cursor or b"0", "COUNT", BATCH)
                    match self.expected("SCAN", found):
                        case [bytes(cursor), list(keys)]:
                            named = [key for key in keys if isinstance(key, bytes) and key != MARKER]
                            tasks.create_task(one(named))
                        case _:
                            raise Fault("protocol", "its answer to SCAN is not understood")
        except ExceptionGroup as group:
            raise group.exceptions[0] from None

    async def chunks(self, keys: Sequence[bytes]) -> list[tuple[list[bytes], bool]]:
        """The keys in parts of at most CHUNK bytes of values; a larger value is alone, and marked. Raises Fault."""
        found: list[tuple[list[bytes], bool]] = []
        room = 0
        sizes = await self.client.ask([("MEMORY", "USAGE", key) for key in keys])
        for key, told in zip(keys, sizes, strict=True):
            size = _UNKNOWN if isinstance(told, Wrong) else number(told)
            if size > 2 * LARGEST:  # a payload is often smaller than what its value takes, but hardly by more
                raise self.too_large(key, size)
            if size > CHUNK:
                found.append(([key], True))
                room = 0
                continue
            if size > room:
                found.append(([], False))
                room = CHUNK
            found[-1][0].append(key)
            room -= size
        return found

    def too_large(self, key: bytes, size: int) -> RehostError:
        return RehostError(
            f"{shown(key)} holds {size / 1e6:,.0f} MB, and a server takes {LARGEST >> 20} MB at once",
            where=self.label,
            cure="Make it smaller or remove it where the app runs today, or move by its provider's export.",
        )

    async def states(self, keys: Sequence[bytes]) -> list[State | None]:
        """What each key holds now; None where there is none. Raises NotAllowed, Fault."""
        if not self._script:
            return await self._read(keys)
        told: dict[bytes, State | None] = {}
        large: list[bytes] = []
        left = list(keys)
        while left:
            groups = [left[at : at + _TOGETHER] for at in range(0, len(left), _TOGETHER)]
            left = []
            head: list[Command] = [] if self.exact else [("TIME",)]
            asked: list[Command] = [("EVALSHA", self._script, len(group), *group) for group in groups]
            replies = await self.client.ask([*head, *asked])
            now = 0 if self.exact else _milliseconds(replies.pop(0))
            for group, reply in zip(groups, replies, strict=True):
                words = self.expected("EVALSHA", reply)
                if not isinstance(words, list) or not words:
                    raise Fault("protocol", "its answer to EVALSHA is not understood")
                left += group[len(words) :]
                for key, word in zip(group, words, strict=False):
                    digest, _, expiry = word.partition(b" ") if isinstance(word, bytes) else (b"", b"", b"")
                    if expiry:
                        told[key] = State(digest, now + int(expiry) if int(expiry) >= 0 else -1)
                    elif digest == b"large":
                        large.append(key)
        told.update(zip(large, await self._read(large), strict=True))
        return [told.get(key) for key in keys]

    async def _read(self, keys: Sequence[bytes]) -> list[State | None]:
        """The same, with the digest made here."""
        found: dict[bytes, State | None] = {}
        for chunk, large in await self.chunks(keys):
            async with self.large if large else contextlib.nullcontext():
                for key, (payload, expiry) in zip(chunk, await self.payloads(chunk), strict=True):
                    digest = _sha1(memoryview(payload)[:-_FOOTER]).hexdigest().encode()
                    found[key] = State(digest, expiry) if payload else None
        return [found[key] for key in keys]

    async def payloads(self, keys: Sequence[bytes]) -> list[tuple[bytes, int]]:
        """Payload and expiry of each; b"" where there is none. Raises NotAllowed, Fault."""
        command = "PEXPIRETIME" if self.exact else "PTTL"
        commands: list[Command] = [] if self.exact else [("TIME",)]
        for key in keys:
            commands += [("DUMP", key), (command, key)]
        replies = await self.client.ask(commands)
        now = 0 if self.exact else _milliseconds(replies.pop(0))
        found = []
        for at, key in enumerate(keys):
            payload = self.expected("DUMP", replies[2 * at], key)
            expiry = number(self.expected(command, replies[2 * at + 1], key))
            found.append(
                (payload if isinstance(payload, bytes) else b"", now + expiry if expiry >= 0 else -1)
            )
        return found

    async def meanings(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """A digest of what each value means; None where that cannot be told. Raises NotAllowed, Fault."""
        kinds = [kind if isinstance(kind, bytes) else b"" for kind in await self.ask("TYPE", keys)]
        commands = [READ[kind](key) for key, kind in zip(keys, kinds, strict=True) if kind in READ]
        replies = iter(await self.client.ask(commands))
        # A value that was replaced by one of another kind meanwhile is told as different.
        return [canonical(kind, next(replies)) if kind in READ else None for kind in kinds]


def number(reply: Reply) -> int:
    return reply if isinstance(reply, int) else 0


def _milliseconds(reply: Reply) -> int:
    """Of TIME: seconds and microseconds."""
    match reply:
        case [bytes(seconds), bytes(micros)]:
            return int(seconds) * 1000 + int(micros) // 1000
    return int(time.time() * 1000)
