"""Shared-core machine types: two processors for a while, their share of one in the long run.

Compute Engine says what such a machine sustains (e2-micro 0.25 of a core, e2-small 0.5, e2-medium 1) and that it may
use two whole ones for short periods. It does not publish by what rule. The rule here is the lab's own: an account of
processor time, which is full when the machine is switched on, to which the share flows, and from which all use is
paid. While there is credit the machine has both processors; without any it has its share.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from rehost.lab import cgroups
from rehost.lab.hardware import Hardware
from rehost.lab.places import Places

FULL = 120.0  # core-seconds; both processors for 68 s on an e2-micro, for 120 s on an e2-medium
INTERVAL = 1.0  # seconds between two looks


@dataclass(frozen=True, slots=True)
class Account:
    """balance: core-seconds. used: the counter of processor time at the last look, `at`, in seconds."""

    balance: float
    used: float
    at: float


def settled(account: Account, share: float, used: float, now: float) -> Account:
    """The account at a later look: what flowed in, less what was used; never below nothing or above full (pure)."""
    balance = account.balance + share * (now - account.at) - (used - account.used)
    return Account(min(FULL, max(0.0, balance)), used, now)


def allowed(balance: float, hardware: Hardware) -> float:
    """Processor time a second until the next look, so that no more is used than is there (pure)."""
    share = hardware.cpus if hardware.share is None else hardware.share
    return min(hardware.cpus, share + balance / INTERVAL)


class Bursts:
    """Keeps the accounts of the machines that run, and their limits by them."""

    def __init__(self, places: Places, clock: Callable[[], float] = time.monotonic) -> None:
        self._places = places
        self._clock = clock
        self._accounts: dict[str, tuple[Account, float, Hardware]] = {}
        self._task: asyncio.Task[None] | None = None

    def switched_on(self, machine: str, hardware: Hardware) -> None:
        """With its limits set to `hardware.cpus`, as they stay for a machine that has no share. Needs a loop."""
        if hardware.share is None:
            return
        self._accounts[machine] = (Account(FULL, 0.0, self._clock()), hardware.share, hardware)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._watch())

    def switched_off(self, machine: str) -> None:
        self._accounts.pop(machine, None)

    def look(self) -> None:
        """Settles every account, and sets the limits that follow."""
        for machine, (account, share, hardware) in list(self._accounts.items()):
            try:
                used = cgroups.used(self._places, machine)
                after = settled(account, share, used, self._clock())
                cgroups.allow_cpus(self._places, machine, allowed(after.balance, hardware))
            except OSError:
                continue  # it has just been switched off
            self._accounts[machine] = (after, share, hardware)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        while self._accounts:
            await asyncio.sleep(INTERVAL)
            self.look()
