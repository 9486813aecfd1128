"""Disks: files of the size that was asked for, sparse, and what they are copied from and to.

A key is a path below the lab's block store: "disks/us-west1-a/app", "snapshots/monday", "images/golden". Public
images have keys, too; they come into the store from the cache when they are first used.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from rehost.lab import cgroups, loops, store, trees
from rehost.lab.places import Places
from rehost.lab.programs import run
from rehost.run.errors import RehostError

# Key -> where it is once the trees are built.
PUBLIC: dict[str, Callable[[], Path]] = {"public/debian-12": trees.base_disk}

COPY_DEADLINE = 600.0
_FREEZE, _THAW = 0xC0045877, 0xC0045878  # <linux/fs.h>: FIFREEZE, FITHAW
_freezing = threading.Lock()
_HALF, _FROZEN = ".half", ".frozen"  # no name of a resource has a dot in it


class Disks:
    """The contents that one lab keeps. All methods raise RehostError with a cure."""

    def __init__(self, places: Places) -> None:
        self._places = places

    async def make(self, key: str, gigabytes: int, source: str | None = None) -> None:
        """A new disk, blank or with the source's content. Anything of that key that was there is replaced."""
        await asyncio.to_thread(self._make, key, gigabytes, source)

    async def copy(self, source: str, key: str) -> int:
        """The source's content as it is at one moment, as after a power cut but with all that the machine's file
        systems had in memory. Writes to them wait meanwhile. Returns the bytes that the copy takes."""
        return await asyncio.to_thread(self._copy, source, key)

    async def grow(self, key: str, gigabytes: int) -> None:
        """The disk alone, at once, also under a machine that runs; never shrunk. A file system on it grows when
        a machine boots from it."""
        await asyncio.to_thread(self._grow, key, gigabytes)

    async def delete(self, key: str) -> None:
        """Nothing to do when it is gone."""
        file(self._places, key).unlink(missing_ok=True)

    def _make(self, key: str, gigabytes: int, source: str | None) -> None:
        if source is None:
            target = file(self._places, key)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
        else:
            self._copy(source, key)
        self._grow(key, gigabytes)

    def _copy(self, source: str, key: str) -> int:
        original, target = file(self._places, source), file(self._places, key)
        target.parent.mkdir(parents=True, exist_ok=True)
        half = target.with_name(target.name + _HALF)
        try:
            with _still(self._places, original):
                # Shares blocks where the file system can (btrfs, XFS).
                run("cp", "--reflink=auto", "--sparse=auto", original, half, timeout=COPY_DEADLINE)
            half.replace(target)
        finally:
            half.unlink(missing_ok=True)
        return target.stat().st_blocks * 512

    def _grow(self, key: str, gigabytes: int) -> None:
        disk = file(self._places, key)
        run("truncate", f"--size=>{gigabytes}G", disk)
        loops.resized(disk)


def file(places: Places, key: str) -> Path:
    return store.taken_in(places, key, PUBLIC[key]()) if key in PUBLIC else places.store / key


# -- holding still -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def _still(places: Places, disk: Path) -> Iterator[None]:
    """File systems on the disk write what they have in memory, and then nothing until the end.

    The kernel keeps a file system frozen when who froze it dies: a mark tells `thaw` to look. One copy at a time: the
    first to end would thaw under the other.
    """
    devices = loops.found(disk)
    if not devices:
        yield
        return
    frozen: list[int] = []
    mark = disk.with_name(disk.name + _FROZEN)
    with _freezing:
        mark.touch()
        try:
            for device in devices:
                _flush(device)
                if (root := _mounted(places, device)) is not None:
                    frozen += _frozen(root)
            yield
        finally:
            for handle in frozen:
                fcntl.ioctl(handle, _THAW, 0)
                os.close(handle)
            mark.unlink()


def _flush(device: str) -> None:
    handle = os.open(device, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _frozen(root: int) -> list[int]:
    """The handle again once its file system is frozen. Nothing when the machine itself has frozen it."""
    try:
        fcntl.ioctl(root, _FREEZE, 0)
    except OSError as refused:
        os.close(root)
        if refused.errno in (errno.EBUSY, errno.EOPNOTSUPP):
            return []
        raise
    return [root]


def _mounted(places: Places, device: str) -> int | None:
    """A handle on the file system of a device, wherever a machine of the lab has mounted it."""
    wanted = ":".join(map(str, loops.numbers(device)))
    seen: set[str] = set()
    for pid in cgroups.processes(places):
        # Processes end while they are looked at.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            space = str(Path(f"/proc/{pid}/ns/mnt").readlink())
            if space in seen:
                continue
            seen.add(space)
            for point in points(Path(f"/proc/{pid}/mountinfo").read_text(), wanted):
                handle = os.open(f"/proc/{pid}/root{point}", os.O_RDONLY)
                if ":".join(map(str, (os.major(dev := os.fstat(handle).st_dev), os.minor(dev)))) == wanted:
                    return handle
                os.close(handle)  # something else is mounted over it
    return None


def points(mountinfo: str, numbers: str) -> list[str]:
    """Where file systems of that device ("7:3") are mounted (pure)."""
    lines = [line.split() for line in mountinfo.splitlines()]
    return [line[4].replace("\\040", " ") for line in lines if line[2] == numbers]


def thaw(places: Places) -> None:
    """What a killed copy left frozen: whoever writes there waits for ever, and can't be killed."""
    for mark in places.store.rglob(f"*{_FROZEN}"):
        for device in loops.found(mark.with_name(mark.name.removesuffix(_FROZEN)), pulled=True):
            with tempfile.TemporaryDirectory(prefix="rehost-") as point:
                try:
                    run("mount", "--options", "noatime", device, point)
                except RehostError:
                    continue  # no file system on it: nothing was frozen
                handle = os.open(point, os.O_RDONLY)
                try:
                    # EINVAL: it was not frozen yet, or not any more.
                    with contextlib.suppress(OSError):
                        fcntl.ioctl(handle, _THAW, 0)
                finally:
                    os.close(handle)
                    run("umount", point)
        mark.unlink()
