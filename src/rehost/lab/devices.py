"""The block devices that a machine sees: /dev/sda, /dev/sdb, and /dev/disk/by-id/google-NAME.

The host makes loop devices of the disks' files, and lists them in a file that the machine sees; a script of the
base tree makes the nodes from it, at each boot and whenever it is run. (udev does not run in a container.)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase

from rehost.lab import disks, loops
from rehost.lab.hardware import PluggedDisk
from rehost.lab.places import Places
from rehost.lab.programs import run
from rehost.run.errors import RehostError

SCRIPT = "/usr/local/sbin/lab-disks"  # in the base tree


@dataclass(frozen=True, slots=True)
class Device:
    """node: "sdb". loop: the host's device; empty for the disk that the machine boots from: its launcher has it."""

    node: str
    name: str
    loop: str = ""


class Devices:
    """What is plugged into one machine while it is on."""

    def __init__(self, places: Places, listing: Path) -> None:
        self._places = places
        self._listing = listing
        self._plugged: dict[str, tuple[PluggedDisk, Device]] = {}

    def start(self, plugged: Sequence[PluggedDisk]) -> None:
        """Before a boot. The first disk is the one to boot from."""
        self.end()  # of a boot that failed
        self._plugged = {plugged[0].name: (plugged[0], Device("sda", plugged[0].name))}
        for disk in plugged[1:]:
            self._bind(disk)
        self._write()

    def plug(self, disk: PluggedDisk, leader: int | None) -> None:
        """Into a machine that is on. leader: its init as the host sees it; None while it reboots."""
        self._bind(disk)
        try:
            self._show(leader)
        except BaseException:
            loops.pull(self._plugged.pop(disk.name)[1].loop)
            self._write()
            raise

    def pull(self, name: str, leader: int | None) -> None:
        """Out of a machine that is on; what is mounted from it there fails from now on."""
        pulled = self._plugged.pop(name)
        try:
            self._show(leader)
        except BaseException:
            self._plugged[name] = pulled
            self._write()
            raise
        loops.pull(pulled[1].loop)

    def end(self) -> None:
        """When all processes of the machine are dead."""
        for disk, device in self._plugged.values():
            file = disks.file(self._places, disk.content)
            if device.loop:
                loops.detach(device.loop, file)
            else:
                loops.release(file)
        self._plugged.clear()

    def _bind(self, disk: PluggedDisk) -> None:
        node = free_node([device.node for _, device in self._plugged.values()])
        loop = loops.bind(disks.file(self._places, disk.content), read_only=disk.read_only)
        self._plugged[disk.name] = (disk, Device(node, disk.name, loop))

    def _show(self, leader: int | None) -> None:
        self._write()
        if leader is None:
            return
        try:
            run("nsenter", f"--target={leader}", "--mount", "--pid", SCRIPT)
        except RehostError:
            if Path(
                f"/proc/{leader}"
            ).exists():  # one that has just gone down makes its nodes at its next boot
                raise

    def _write(self) -> None:
        """In place: the file is bound into the machine."""
        text = listing(device for _, device in self._plugged.values())
        with self._listing.open("r+") as handle:
            handle.write(text)
            handle.truncate()


def listing(devices: Iterable[Device]) -> str:
    """One line a device: node, major:minor ("/" for what / is on), name."""
    lines = []
    for device in devices:
        numbers = ":".join(map(str, loops.numbers(device.loop))) if device.loop else "/"
        lines.append(f"{device.node} {numbers} {device.name}\n")
    return "".join(lines)


def free_node(taken: Sequence[str]) -> str:
    """The first of sda, sdb, ... sdz, sdaa, ... that is not taken (pure)."""
    letters = [*ascii_lowercase, *(a + b for a in ascii_lowercase for b in ascii_lowercase)]
    return next(node for node in (f"sd{letter}" for letter in letters) if node not in taken)
