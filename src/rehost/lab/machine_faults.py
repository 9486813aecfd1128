"""Faults of machines on order: what stands is brought about again and again until it is taken back.

An order is kept by the machine's name, which need not be there yet. A task compares what is ordered with what is done
(`settle`), whenever something in the cloud changes or a time is up; so a machine that is made or started meanwhile
gets its faults, and one whose order has gone is mended. Faults of the boot itself are lines of a file that the
machine's launcher reads.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from rehost.lab import fault_kinds, inner_faults, link_faults
from rehost.lab.compute_power import external
from rehost.lab.fault_kinds import AT_BOOT, INSIDE, OF_MACHINES, ON_LINK, WITH_ANOTHER
from rehost.lab.inner_faults import SCRIPTS
from rehost.lab.link_faults import Trouble
from rehost.lab.places import Places
from rehost.lab.state import Cloud, Resource
from rehost.run.errors import RehostError, UsageError

log = logging.getLogger(__name__)

BOOTS = ("boot-slow", "boot-fails")
AFTER_BOOT = ("agent-late", "ssh-late", "startup-slow")  # `seconds` count from each boot
RETRY = 1.0  # seconds between two tries on a machine that does not take it yet
# Lines of sh.
_SLOW = "sleep {seconds:g}"
_PANIC = (
    "printf '[    %s] %s\\n' 1.183422 'VFS: Cannot open root device: error -6' "
    "1.184951 'Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(8,1)'; exec sleep infinity"
)


class Room(Protocol):
    """The part of `machines.Machines` that is used here."""

    def running(self, name: str) -> bool: ...
    def leader(self, name: str) -> int | None: ...
    async def power_cut(self, name: str) -> None: ...


@dataclass
class MachineOrder:
    """A fault that stands. since: when it was ordered; until: when it goes by itself (both as time.time())."""

    machine: str
    fault: str
    seconds: float | None = None
    other: str = ""
    since: float = field(default_factory=time.time)
    until: float | None = None

    def listed(self) -> dict[str, object]:
        made: dict[str, object] = {"machine": self.machine, "fault": self.fault}
        if self.other:
            made["with"] = self.other
        if self.fault in AFTER_BOOT:
            made["seconds"] = self.seconds
        if self.until is not None:
            made["left"] = round(max(0.0, self.until - time.time()), 1)
        return {**made, "text": fault_kinds.text(made)}


class MachineFaults:
    """All faults of one lab's machines."""

    def __init__(
        self, places: Places, cloud: Cloud, room: Room, preempt: Callable[[str], Awaitable[object]]
    ) -> None:
        self._places, self._cloud, self._room, self._preempt = places, cloud, room, preempt
        self.orders: list[MachineOrder] = []
        self._rules = ""  # as they were loaded
        self._slowed: dict[str, tuple[str, str]] = {}  # machine -> its boot's moment, and its cable
        # (machine, fault inside) -> the boot's moment, "" when the machine took a part of it only
        self._done: dict[tuple[str, str], str] = {}
        self._lock = asyncio.Lock()
        self._warned: set[tuple[str, str]] = set()

    # -- orders --------------------------------------------------------------------------------------------

    async def order(
        self, machine: str, fault: str, times: int = 1, seconds: float | None = None, other: str = ""
    ) -> None:
        """Raises UsageError for what cannot be ordered, RehostError when the machine does not take it."""
        kind = fault_kinds.kind(fault, OF_MACHINES, "a machine")
        fault_kinds.check_extent(kind, times, seconds)
        if other and fault not in WITH_ANOTHER:
            raise UsageError(
                f"{fault} is not between two machines",
                cure=f"Leave --with out, or choose one of: {', '.join(WITH_ANOTHER)}.",
            )
        for name in filter(None, (machine, other)):
            self._check_name(name, must_run=fault in ("power-cut", "preempted") or name == other)
        length = seconds or kind.seconds
        if fault == "power-cut":
            await self._room.power_cut(machine)
        elif fault == "preempted":
            await self._preempt(machine)
        elif fault in BOOTS:
            self._add_boots(machine, fault, times, length or 0)
        else:
            until = time.time() + seconds if seconds and fault not in AT_BOOT else None
            self.orders = [o for o in self.orders if (o.machine, o.fault, o.other) != (machine, fault, other)]
            order = MachineOrder(machine, fault, length, other, until=until)
            self.orders.append(order)
            try:
                await self.settle(order)
            except RehostError:
                self.orders.remove(order)
                self._cloud.touch()  # half of it may be done, and is mended
                raise
        self._cloud.touch()

    async def clear(self, machine: str | None = None) -> int:
        """Takes orders back, all or those of a machine, and mends. Returns how many."""
        before = self.listed()
        self.orders = [order for order in self.orders if machine not in (None, order.machine)]
        for file in self._boot_files():
            if machine in (None, file.name):
                file.unlink(missing_ok=True)
        await self.settle()
        self._cloud.touch()
        return len(before) - len(self.listed())

    def listed(self) -> list[dict[str, object]]:
        """What stands, for `lab status`."""
        boots = []
        for file in self._boot_files():
            faults = [line.rsplit("# ", 1)[1] for line in file.read_text().splitlines()]
            for fault in dict.fromkeys(faults):
                made = {"machine": file.name, "fault": fault, "times": faults.count(fault)}
                boots.append({**made, "text": fault_kinds.text(made)})
        return [*boots, *(order.listed() for order in self.orders)]

    def _check_name(self, name: str, *, must_run: bool) -> None:
        known = {instance["name"]: instance for _, instance in self._cloud.everywhere("instances")}
        if must_run and not (name in known and self._room.running(name)):
            running = ", ".join(each for each in known if self._room.running(each)) or "none"
            raise UsageError(f"no machine {name!r} runs in this lab", cure=f"Machines that run: {running}.")
        near = fault_kinds.near(name, known)
        if name not in known and near:
            # A name may be of a machine to be made; one that is nearly another's is a slip.
            raise UsageError(f"there is no machine {name!r} in this lab", cure=near.strip())

    # -- boots: read by machines.LAUNCHER ------------------------------------------------------------------

    def _boot_files(self) -> list[Path]:
        return [file for file in sorted(self._places.boot_faults.glob("*")) if file.read_text()]

    def _add_boots(self, machine: str, fault: str, times: int, seconds: float) -> None:
        act = _PANIC if fault == "boot-fails" else _SLOW.format(seconds=seconds)
        self._places.boot_faults.mkdir(exist_ok=True)
        with (self._places.boot_faults / machine).open("a") as file:
            file.write(f"{act} # {fault}\n" * times)

    # -- what the metadata server does ---------------------------------------------------------------------

    def held_up(self, instance: Resource) -> float:
        """Seconds that the machine must still wait for any metadata (agent-late)."""
        return max(0.0, self._end("agent-late", instance) - time.time())

    def refuses_host_keys(self, name: str) -> bool:
        return any(order.fault == "host-keys-missing" and order.machine == name for order in self.orders)

    def startup_script(self, name: str, script: str) -> str:
        """What the machine gets to run in place of its startup script."""
        for order in self.orders:
            if order.machine != name or not script:
                continue
            if order.fault == "startup-fails":
                return "#!/bin/sh\necho 'the lab was asked to let this script fail' >&2\nexit 1\n"
            if order.fault == "startup-slow":
                return _delayed(script, order.seconds or 0)
        return script

    def _end(self, fault: str, instance: Resource) -> float:
        """Until when a fault of AFTER_BOOT lasts; 0 when none stands."""
        for order in self.orders:
            if (order.machine, order.fault) == (instance["name"], fault):
                if instance["status"] != "RUNNING":
                    return time.time() + (order.seconds or 0)
                return max(_started(instance), order.since) + (order.seconds or 0)
        return 0.0

    async def close(self) -> None:
        """Leaves nothing on this computer; what is inside machines goes with them."""
        self.orders.clear()
        async with self._lock:
            await asyncio.to_thread(self._settle_links, {})

    # -- bringing it about ---------------------------------------------------------------------------------

    async def run(self) -> None:
        """Settles for as long as the lab lives."""
        while True:
            changed = asyncio.ensure_future(self._cloud.changed())
            try:
                pause = await self._settled()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed, pause)
            finally:
                changed.cancel()

    async def _settled(self) -> float | None:
        """Settles; seconds until the next time."""
        try:
            await self.settle()
        except RehostError as failure:
            # A machine may go while its cable is being seen to.
            log.warning("faults are not as ordered: %s %s", failure.what, failure.detail)
            return RETRY
        return self._pause()

    def _pause(self) -> float | None:
        """Seconds until something is due by itself; None: nothing is."""
        now = time.time()
        ends = [order.until for order in self.orders if order.until is not None]
        ends += [self._end("ssh-late", instance) for _, instance in self._cloud.everywhere("instances")]
        pauses = [max(0.05, end - now) for end in ends if end > now]
        if self._warned:
            pauses.append(RETRY)
        return min(pauses, default=None)

    async def settle(self, strict: MachineOrder | None = None) -> None:
        """Makes what is done as it is ordered. What a machine does not take is tried again later, but for the order
        `strict`: then RehostError is raised."""
        async with self._lock:
            now = time.time()
            self.orders = [order for order in self.orders if order.until is None or order.until > now]
            here = {
                instance["name"]: instance
                for _, instance in self._cloud.everywhere("instances")
                if self._room.running(instance["name"])
            }
            await asyncio.to_thread(self._settle_links, here)
            await asyncio.to_thread(self._settle_slow, here)
            await self._settle_inside(here, strict)

    def _settle_links(self, here: dict[str, Resource]) -> None:
        troubles = []
        for order in self.orders:
            instance = here.get(order.machine)
            rules = order.fault in ON_LINK or order.fault in ("ssh-late", "archive-unreachable")
            if instance is None or not rules or (order.other and order.other not in here):
                continue
            if order.fault == "ssh-late" and self._end("ssh-late", instance) <= time.time():
                continue
            others = _addresses(here[order.other]) if order.other else ()
            troubles.append(Trouble(self._device(instance), order.fault, others))
        # A cable is another one after each boot, though of the same name.
        boots = [f"# {name} {instance.get('lastStartTimestamp')}\n" for name, instance in here.items()]
        rules_text = link_faults.table(self._places, troubles)
        wanted = "".join(boots) + rules_text if troubles else ""
        if wanted != self._rules:
            link_faults.load(rules_text)
            self._rules = wanted

    def _settle_slow(self, here: dict[str, Resource]) -> None:
        wanted = {
            order.machine: (
                str(here[order.machine].get("lastStartTimestamp")),
                self._device(here[order.machine]),
            )
            for order in self.orders
            if order.fault == "net-slow" and order.machine in here
        }
        for name, (_, device) in self._slowed.items() - wanted.items():
            link_faults.unslow(self._places, name, device)
        for name, (_, device) in wanted.items() - self._slowed.items():
            link_faults.slow(self._places, name, device)
        self._slowed = wanted

    async def _settle_inside(self, here: dict[str, Resource], strict: MachineOrder | None) -> None:
        wanted = {(order.machine, order.fault): order for order in self.orders if order.fault in INSIDE}
        known = {instance["name"] for _, instance in self._cloud.everywhere("instances")}
        for key in [key for key in self._done if key not in wanted]:
            if leader := self._leader(key[0], here):
                await asyncio.to_thread(inner_faults.mend, leader, key[1])
            elif key[0] in known:
                continue  # a full disk is still full when the machine is switched on again
            del self._done[key]
        for key, order in wanted.items():
            leader = self._leader(key[0], here)
            boot = str(here.get(key[0], {}).get("lastStartTimestamp"))
            if leader is None or self._done.get(key) == boot:
                continue
            self._done[key] = ""
            try:
                await asyncio.to_thread(inner_faults.harm, leader, key[1])
            except RehostError as failure:
                if order is strict:
                    raise
                if key not in self._warned:
                    log.warning("%s on %s: %s %s", key[1], key[0], failure.what, failure.detail)
                self._warned.add(key)
            else:
                self._done[key] = boot
                self._warned.discard(key)
        self._warned &= wanted.keys()

    def _leader(self, name: str, here: dict[str, Resource]) -> int | None:
        return self._room.leader(name) if name in here else None

    def _device(self, instance: Resource) -> str:
        return self._places.veth(instance["networkInterfaces"][0]["networkIP"])


def _started(instance: Resource) -> float:
    stamp = instance.get("lastStartTimestamp")
    return datetime.fromisoformat(stamp).timestamp() if stamp else 0.0


def _addresses(instance: Resource) -> tuple[str, ...]:
    public = external(instance)
    return (instance["networkInterfaces"][0]["networkIP"], *((public,) if public else ()))


def _delayed(script: str, seconds: float) -> str:
    """The same script, begun later, whatever its interpreter."""
    return (
        f"#!/bin/sh\necho 'the lab was asked to hold this script up for {seconds:g} s' >&2\nsleep {seconds:g}\n"
        'file=$(mktemp) && chmod 700 "$file" && cat >"$file" <<\'END_OF_THE_SCRIPT\'\n'
        f"{script.rstrip()}\nEND_OF_THE_SCRIPT\n"
        '"$file"\nstatus=$?\nrm -f "$file"\nexit "$status"\n'
    )


assert set(SCRIPTS) == set(INSIDE)  # noqa: S101 (two tables of the same kinds)
