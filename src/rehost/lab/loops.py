"""Loop devices: how a file of the host becomes a block device, and how it stops being one.

A device goes by itself a moment after its last mount, unless swap on it holds it: the kernel's swap belongs to no
namespace.
"""

from __future__ import annotations

import fcntl
import os
import struct
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rehost.lab.programs import run
from rehost.run.errors import RehostError

# <linux/loop.h>: the ioctls, and struct loop_info64 (its fourth field is the offset into the file).
_SET_STATUS, _GET_STATUS = 0x4C04, 0x4C05
_INFO = struct.Struct("5Q4I64s64s32s2Q")
_OFFSET = 3
_BEYOND = 1 << 62  # an offset behind the end of every file: the device has no sectors


def found(below: Path, *, pulled: bool = False) -> list[str]:
    """Devices backed by that file, or by files in that directory, removed ones included. pulled: those that were
    pulled out and are still held by their last user, too."""
    devices = []
    for backing in sorted(Path("/sys/block").glob("loop*/loop/backing_file")):
        try:
            file = Path(backing.read_text().strip().removesuffix(" (deleted)"))
            offset = int(backing.with_name("offset").read_text())
        except (FileNotFoundError, OSError):
            continue  # it has just gone
        device = f"/dev/{backing.parts[3]}"
        if (pulled or offset != _BEYOND) and (below in (file, *file.parents) or _same(device, file, below)):
            devices.append(device)
    return devices


def _same(device: str, shown: Path, file: Path) -> bool:
    """Whether the device is of that file, though the kernel shows another path: it forgets the way to a file system
    when the mount namespace is gone in which the file was opened."""
    if not str(file).endswith(str(shown)) or not file.is_file():
        return False
    info, status = _info(device), file.stat()
    return info is not None and info == ((os.major(status.st_dev), os.minor(status.st_dev)), status.st_ino)


def inside(file: Path) -> list[str]:
    """Devices backed by files of the file system that this file holds, pulled ones included. By number, not by path
    (see `_same`)."""
    outer = {numbers(device) for device in found(file, pulled=True)}
    devices = []
    for backing in sorted(Path("/sys/block").glob("loop*/loop/backing_file")):
        device = f"/dev/{backing.parts[3]}"
        info = _info(device)
        if info and info[0] in outer:
            devices.append(device)
    return devices


def _info(device: str) -> tuple[tuple[int, int], int] | None:
    """Of the backing file: major and minor of what holds it, and its inode. None when the device has just gone."""
    try:
        handle = os.open(device, os.O_RDONLY)
    except OSError:
        return None
    try:
        info = bytearray(_INFO.size)
        fcntl.ioctl(handle, _GET_STATUS, info)
    except OSError:
        return None
    finally:
        os.close(handle)
    number, inode, *_ = map(int, _INFO.unpack(info)[:2])  # the first as the kernel's huge_encode_dev has it
    return ((number >> 8) & 0xFFF, (number & 0xFF) | ((number >> 12) & 0xFFF00)), inode


def release_inside(file: Path) -> None:
    """As `release`, for all files of the file system that this file holds."""
    _let_go(lambda: inside(file), file)


def bind(file: Path, *, read_only: bool = False) -> str:
    """Makes a device of a file, and returns its name."""
    mode = ["--read-only"] if read_only else []
    return run("losetup", "--find", "--show", *mode, file).strip()


def numbers(device: str) -> tuple[int, int]:
    """Major and minor."""
    made = Path(device).stat().st_rdev
    return os.major(made), os.minor(made)


def resized(file: Path) -> None:
    """The file has grown: its devices grow, whatever is mounted from them."""
    for device in found(file):
        run("losetup", "--set-capacity", device)


def pull(device: str) -> None:
    """Pulls the device out under whoever uses it: reads and writes fail from now on, as with a disk that is
    detached from a running machine. The file is free; the device goes with its last user."""
    handle = os.open(device, os.O_RDONLY)
    try:
        info = bytearray(_INFO.size)
        fcntl.ioctl(handle, _GET_STATUS, info)
        values = list(_INFO.unpack(info))
        values[_OFFSET] = _BEYOND
        fcntl.ioctl(handle, _SET_STATUS, _INFO.pack(*values))
    finally:
        os.close(handle)
    run("losetup", "--detach", device)


def release(below: Path, *, pulled: bool = False) -> None:
    """Lets go of a file, or of all files in a directory, whose users are dead. May be repeated.

    Raises RehostError when a device stays.
    """
    _let_go(lambda: found(below, pulled=pulled), below)


def detach(device: str, file: Path) -> None:
    """As `release`, for one of the file's devices."""
    _let_go(lambda: [one for one in found(file) if one == device], file)


def _let_go(devices: Callable[[], list[str]], what: Path, deadline: float = 20) -> None:
    end = time.monotonic() + deadline
    while left := devices():
        for device in left:
            if _swap_is_on():
                _switch_off_swap(device, devices)
            run("losetup", "--detach", device, check=False)
        if time.monotonic() > end:
            raise RehostError(
                f"{what} is still in use by {', '.join(left)}",
                cure=f"`grep {left[0]} /proc/*/mounts` names the processes that hold it; end them and try again.",
            )
        time.sleep(0.02)


def _switch_off_swap(device: str, meant: Callable[[], list[str]]) -> None:
    """Swap on the device itself, then swap files: mounting it a second time makes the paths to them again.

    meant: the devices that are. One that is let go of meanwhile may be another machine's at once, of another lab too,
    and that one's swap is in use; while it is mounted here it stays what it is.
    """
    if device in meant():
        run("swapoff", device, check=False, timeout=300)
    with tempfile.TemporaryDirectory(prefix="rehost-") as point:
        try:
            run("mount", "--options", "noatime", device, point)
        except RehostError:
            return  # no file system, or the device has just gone: nothing held it
        try:
            for file in swap_files() if device in meant() else ():
                inside = Path(point, file.lstrip("/"))
                if inside.is_file():
                    run("swapoff", inside, check=False, timeout=300)
        finally:
            run("umount", point)


def _swap_is_on() -> bool:
    return len(Path("/proc/swaps").read_text().splitlines()) > 1


def swap_files() -> list[str]:
    """Paths in /proc/swaps: as the mount namespace saw them that swap was switched on in, so maybe ambiguous."""
    lines = Path("/proc/swaps").read_text().splitlines()[1:]
    return [line.split()[0] for line in lines if line.split()[1:2] == ["file"]]
