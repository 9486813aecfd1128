"""What the lab's cloud holds: resources as Compute Engine answers them, addresses, and who waits for changes."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from rehost.lab.compute_errors import not_found
from rehost.lab.hardware import STOP_PATIENCE, Hardware, MachineSpec, PacketRule, PluggedDisk

Resource = dict[str, Any]

# Compute Engine writes its own references so, whatever host was asked.
LINK_ROOT = "https://www.googleapis.com/compute/v1/"


class MachineRoom(Protocol):
    """The part of `machines.Machines` that the API uses; tests give one without machines."""

    async def create(self, spec: MachineSpec) -> None: ...
    async def boot(self, name: str, rules: Sequence[PacketRule]) -> None: ...
    async def stop(self, name: str, patience: float = STOP_PATIENCE) -> None: ...
    async def reset(self, name: str) -> None: ...
    async def delete(self, name: str) -> None: ...
    async def attach(self, name: str, disk: PluggedDisk, *, first: bool = False) -> None: ...
    async def detach(self, name: str, disk_name: str) -> None: ...
    async def suspend(self, name: str) -> None: ...
    async def resume(self, name: str) -> None: ...
    async def set_hardware(self, name: str, hardware: Hardware) -> None: ...
    def running(self, name: str) -> bool: ...
    async def set_rules(self, name: str, rules: Sequence[PacketRule]) -> None: ...
    async def set_external(self, name: str, address: str | None) -> None: ...
    def serial(self, name: str) -> Path: ...


class DiskRoom(Protocol):
    """The part of `disks.Disks` that the API uses."""

    async def make(self, key: str, gigabytes: int, source: str | None = None) -> None: ...
    async def copy(self, source: str, key: str) -> int: ...
    async def grow(self, key: str, gigabytes: int) -> None: ...
    async def delete(self, key: str) -> None: ...


@dataclass
class Cloud:
    """One project of the lab.

    internal, external: addresses to give out, one subnet. pace: 1.0 lets operations take the few hundred
    milliseconds that make a client wait; 0 is for tests.
    """

    project: str
    account: str
    subnet: str
    gateway: str
    internal: Sequence[str]
    external: Sequence[str]
    machines: MachineRoom
    disks: DiskRoom
    pace: float = 1.0
    number: str = field(default_factory=lambda: str(100000000000 + secrets.randbelow(899999999999)))
    resources: dict[str, Resource] = field(default_factory=dict)
    guest_attributes: dict[str, dict[str, dict[str, str]]] = field(default_factory=dict)
    # What the metadata server tells an instance beside its resource: path -> {"preempted": "TRUE"}.
    signals: dict[str, dict[str, str]] = field(default_factory=dict)
    # The time that schedules and time limits go by.
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _last_external: int = -1

    # -- resources: keyed by their path, "projects/p/zones/z/instances/i" ----------------------------------

    def get(self, path: str) -> Resource:
        """Raises ApiError 404."""
        try:
            return self.resources[path]
        except KeyError:
            raise not_found(path) from None

    def under(self, collection: str) -> list[Resource]:
        """Resources directly in a collection, "projects/p/zones/z/instances", by name."""
        prefix = collection + "/"
        found = [key for key in self.resources if key.startswith(prefix) and "/" not in key[len(prefix) :]]
        return [self.resources[key] for key in sorted(found)]

    def everywhere(self, collection: str) -> Iterator[tuple[str, Resource]]:
        """(path, resource) of all zones or regions, for a collection's last word: "instances"."""
        for path in sorted(self.resources):
            if path.split("/")[-2] == collection:
                yield path, self.resources[path]

    def add(self, path: str, resource: Resource) -> Resource:
        """Fills in what every resource has, and keeps it."""
        name = path.rsplit("/", 1)[1]
        head = {"id": new_id(), "creationTimestamp": timestamp(), "name": name, "selfLink": link(path)}
        self.resources[path] = head | resource
        return self.resources[path]

    def remove(self, path: str) -> None:
        """Nothing to do when it is gone."""
        self.resources.pop(path, None)

    # -- who waits -----------------------------------------------------------------------------------------

    def touch(self) -> None:
        """Something changed: wakes the metadata server's long polls."""
        event, self._changed = self._changed, asyncio.Event()
        event.set()

    async def changed(self) -> None:
        """Returns at the next `touch`."""
        await self._changed.wait()

    # -- addresses -----------------------------------------------------------------------------------------

    def free_internal(self) -> str | None:
        used = {nic["networkIP"] for _, i in self.everywhere("instances") for nic in i["networkInterfaces"]}
        return next((address for address in self.internal if address not in used), None)

    def used_external(self) -> dict[str, str]:
        """Address -> path of the instance that has it."""
        return {
            access["natIP"]: path
            for path, instance in self.everywhere("instances")
            for access in instance["networkInterfaces"][0].get("accessConfigs", ())
            if "natIP" in access
        }

    def free_external(self) -> str | None:
        """Goes round, so that an address given back is not the next one handed out: clients notice a change."""
        taken = set(self.used_external()) | {a["address"] for _, a in self.everywhere("addresses")}
        for step in range(1, len(self.external) + 1):
            index = (self._last_external + step) % len(self.external)
            if self.external[index] not in taken:
                self._last_external = index
                return self.external[index]
        return None


def timestamp(moment: datetime | None = None) -> str:
    """RFC 3339 with milliseconds; of now, or of a moment that knows its time zone."""
    return (moment or datetime.now(UTC)).isoformat(timespec="milliseconds")


def new_id() -> str:
    """19 digits that fit in 63 bits, as Compute Engine's; int64 values are strings in JSON."""
    return str(10**18 + secrets.randbelow(8 * 10**18))


def stable_id(path: str) -> str:
    """An id that is the same in every lab, as machine types and zones have at Google."""
    return str(1000 + int.from_bytes(hashlib.sha256(path.encode()).digest()[:3]))


def fingerprint(value: object) -> str:
    """8 bytes of the content, base64: changes when the content changes."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return base64.b64encode(hashlib.sha256(text.encode()).digest()[:8]).decode()


def link(path: str) -> str:
    return LINK_ROOT + path


def relative(reference: str) -> str:
    """The path in a reference: a full URL on any host, "/compute/v1/projects/...", or a path already."""
    rest = reference.split("://", 1)[1].split("/", 1)[-1] if "://" in reference else reference.lstrip("/")
    for version in ("compute/v1/", "v1/"):
        if rest.startswith(version):
            return rest[len(version) :]
    return rest
