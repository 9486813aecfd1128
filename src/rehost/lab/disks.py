"""Machines' disks: ext4 files of the size that was asked for, sparse, copies of the cached base disk.

A disk is mounted by the machine's own launcher in a mount namespace that dies with it; the loop device goes too,
unless swap on the disk holds it: the kernel's swap belongs to no namespace.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from rehost.lab.programs import run
from rehost.run.errors import RehostError


def make(base: Path, disk: Path, gigabytes: int) -> None:
    """Copies the base. Shares blocks where the file system can (btrfs, XFS)."""
    run("cp", "--reflink=auto", "--sparse=auto", base, disk, timeout=300)
    grow(disk, gigabytes)


def grow(disk: Path, gigabytes: int) -> None:
    """The file alone, never shrunk: the file system on it grows when the machine boots, as growroot does it."""
    run("truncate", f"--size=>{gigabytes}G", disk)
    disk.with_name(f"{disk.name}.grow").touch()


def release(disk: Path, deadline: float = 20) -> None:
    """Lets go of a disk whose machine is dead: its swap, then its loop device. May be repeated.

    A device goes by itself a moment after its last mount; swap on it is what keeps it. Raises RehostError when
    it stays.
    """
    end = time.monotonic() + deadline
    while devices := loops(disk):
        for device in devices:
            if swap_files():
                _switch_off_swap(device)
            run("losetup", "--detach", device, check=False)
        if time.monotonic() > end:
            raise RehostError(
                f"the disk {disk} is still in use by {', '.join(devices)}",
                cure=f"`grep {devices[0]} /proc/*/mounts` names the processes that hold it; end them and try again.",
            )
        time.sleep(0.02)


def _switch_off_swap(device: str) -> None:
    """Mounting the device a second time makes the path to the swap on it again."""
    with tempfile.TemporaryDirectory(prefix="rehost-") as point:
        try:
            run("mount", "--options", "noatime", device, point)
        except RehostError:
            return  # the device has just gone: nothing held it
        try:
            for file in swap_files():
                inside = Path(point, file.lstrip("/"))
                if inside.is_file():
                    run("swapoff", inside, check=False, timeout=300)
        finally:
            run("umount", point)


def loops(below: Path) -> list[str]:
    """Loop devices backed by that file, or by files in that directory, removed ones included."""
    found = []
    for backing in sorted(Path("/sys/block").glob("loop*/loop/backing_file")):
        file = Path(backing.read_text().strip().removesuffix(" (deleted)"))
        if file == below or below in file.parents:
            found.append(f"/dev/{backing.parts[3]}")
    return found


def swap_files() -> list[str]:
    """Paths in /proc/swaps: as the mount namespace saw them that swap was switched on in, so maybe ambiguous."""
    lines = Path("/proc/swaps").read_text().splitlines()[1:]
    return [line.split()[0] for line in lines if line.split()[1:2] == ["file"]]
