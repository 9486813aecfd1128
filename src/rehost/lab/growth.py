"""Machines whose disks can grow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from rehost.lab import disks
from rehost.lab.hardware import PacketRule
from rehost.lab.machines import Machines
from rehost.lab.places import Places


class GrowingMachines(Machines):
    """A disk grows while its machine is off: at once, or else before its next start.

    Compute Engine grows the disk at once, and Debian's image its file system at the next boot: also at a reboot
    from inside, which here is not enough.
    """

    def __init__(self, places: Places, on_exit: Callable[[str], None]) -> None:
        super().__init__(places, on_exit)
        self._at = places
        self._wanted: dict[str, int] = {}

    async def grow_disk(self, name: str, gigabytes: int) -> None:
        self._wanted[name] = gigabytes
        if not self.running(name):
            await self._grow(name)

    async def boot(self, name: str, rules: Sequence[PacketRule]) -> None:
        if not self.running(name):
            await self._grow(name)
        await super().boot(name, rules)

    async def _grow(self, name: str) -> None:
        if name in self._wanted:
            await asyncio.to_thread(disks.grow, self._at.machine(name) / "disk", self._wanted.pop(name))

    async def delete(self, name: str) -> None:
        self._wanted.pop(name, None)
        await super().delete(name)
