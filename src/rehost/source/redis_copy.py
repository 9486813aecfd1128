"""Makes one database of a Redis or Valkey hold what another holds.

A round compares both by digests and sends what differs, payloads of DUMP for RESTORE. A round that finds nothing to
send has verified the copy. What a computer in between holds of it is bounded: by bytes, not by keys.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from rehost.source.redis_side import LARGEST, Side, number
from rehost.source.resp import Command

CLOCKS: Final = 1000  # ms by which expiries may differ where a server tells only what is left of them


class Round(NamedTuple):
    """What one round found. size: bytes of the payloads that were sent. differed: some of the keys that were sent."""

    sent: int
    size: int
    removed: int
    differed: tuple[bytes, ...]

    @property
    def clean(self) -> bool:
        return not self.sent and not self.removed


class Copying:
    """Rounds from one database to another. say: a line of progress, at most one a second."""

    def __init__(self, origin: Side, copy: Side, say: Callable[[str], None]) -> None:
        self._origin = origin
        self._copy = copy
        self._say = say
        self._tolerance = 0 if origin.exact and copy.exact else CLOCKS
        self.sent = self.size = self.removed = 0
        self._differed: list[bytes] = []
        self._looked = 0
        self._began = self._said = time.monotonic()

    async def round(self, about: int) -> Round:
        """about: how many keys there are. Raises NotAllowed, Fault."""
        sent, size, removed = self.sent, self.size, self.removed
        self._differed, self._looked = [], 0
        self._began = self._said = time.monotonic()
        empty = await self._copy.size() <= 1  # the marker

        async def send(keys: list[bytes]) -> None:
            await self._settle(keys, empty=empty)
            self._looked += len(keys)
            self._tell(about)

        await self._origin.batches(send)
        if not empty:
            await self._copy.batches(self._remove)
        return Round(self.sent - sent, self.size - size, self.removed - removed, tuple(self._differed))

    def _tell(self, about: int) -> None:
        now = time.monotonic()
        if now - self._said >= 1:
            self._said = now
            rate = self._looked / (now - self._began)
            self._say(
                f"{self._looked:,} of about {about:,} keys, {self.size / 1e6:,.1f} MB sent, {rate:,.0f} keys a second"
            )

    async def _settle(self, keys: list[bytes], *, empty: bool) -> None:
        """Sends those that the copy lacks or has otherwise."""
        odd: set[bytes] = set()  # another payload at the same expiry: perhaps the same value, kept otherwise
        if not empty:
            states = await asyncio.gather(self._origin.states(keys), self._copy.states(keys))
            differing = []
            for key, theirs, ours in zip(keys, *states, strict=True):
                if theirs is None or (theirs == ours):
                    continue
                near = ours is not None and self._near(theirs.expiry, ours.expiry)
                if ours is not None and near and theirs.digest == ours.digest:
                    continue
                differing.append(key)
                if near:
                    odd.add(key)
            keys = differing
        for chunk, large in await self._origin.chunks(keys) if keys else []:
            async with self._origin.large if large else contextlib.nullcontext():
                asked = [key for key in chunk if key in odd]
                same = set(asked) - set(await self._other(asked, large=large))
                await self._send([key for key in chunk if key not in same])

    def _near(self, theirs: int, ours: int) -> bool:
        """Whether two expiries are the same. A key that has none is not near one that has."""
        return (theirs < 0) == (ours < 0) and abs(theirs - ours) <= self._tolerance

    async def _other(self, keys: list[bytes], *, large: bool) -> list[bytes]:
        """Those of the keys that mean something else in the copy."""
        if not keys:
            return []
        if large:  # one after the other: only one of them is held here
            theirs, ours = await self._origin.meanings(keys), await self._copy.meanings(keys)
        else:
            theirs, ours = await asyncio.gather(self._origin.meanings(keys), self._copy.meanings(keys))
        return [key for key, a, b in zip(keys, theirs, ours, strict=True) if a is None or a != b]

    async def _send(self, keys: list[bytes]) -> None:
        if not keys:
            return
        commands: list[Command] = []
        names = []
        for key, (payload, expiry) in zip(keys, await self._origin.payloads(keys), strict=True):
            if len(payload) > LARGEST:
                raise self._origin.too_large(key, len(payload))
            if payload:  # else it has gone meanwhile
                commands.append(("RESTORE", key, max(expiry, 0), payload, "ABSTTL", "REPLACE"))
                names.append((key, len(payload)))
        for (key, size), reply in zip(names, await self._copy.client.ask(commands), strict=True):
            self._copy.expected("RESTORE", reply, key)
            self.size += size
        self.sent += len(names)
        self._differed += [key for key, _ in names[: max(0, 3 - len(self._differed))]]

    async def _remove(self, keys: list[bytes]) -> None:
        """Takes out of the copy what is gone at the origin."""
        if not keys:
            return
        there = self._origin.expected("EXISTS", await self._origin.client.one("EXISTS", *keys))
        if number(there) == len(keys):
            return
        replies = await self._origin.ask("EXISTS", keys)
        gone = [key for key, reply in zip(keys, replies, strict=True) if not reply]
        if gone:
            self.removed += number(self._copy.expected("DEL", await self._copy.client.one("DEL", *gone)))
