"""The lab's block store: an XFS file system of its own in a sparse file, for disks, snapshots and images.

Files there share the blocks that they have in common, so that a machine's disk, a snapshot or an image is copied in
milliseconds, whatever its size, and ten machines do not hold the same system ten times. The computer's own file
system need not be able to do that; ext4 is not.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from rehost.lab import loops
from rehost.lab.places import Places
from rehost.lab.programs import run
from rehost.run.errors import RehostError

LOG = "64m"  # of XFS's journal; its own choice for a large file system is ten times that
_copying = threading.Lock()


def start(places: Places) -> None:
    """Makes and mounts it. Raises RehostError with what `mkfs.xfs` or `mount` said.

    It is as large as the room that is left on the computer's disk: who writes too much is told so, and no error
    of a half-written file comes up from below.
    """
    file = _file(places)
    places.store.mkdir()
    # Every machine, those of other labs too, begins with copies of all mounts, which would hold the store in use.
    # An unmount reaches the copies where the mount around it is shared; the computer's root need not be.
    run("mount", "--bind", places.state, places.state)
    run("mount", "--make-private", places.state)
    run("mount", "--make-shared", places.state)
    room = os.statvfs(places.state)
    run("truncate", f"--size={room.f_bavail * room.f_frsize}", file)
    run("mkfs.xfs", "-q", "-f", "-m", "reflink=1", "-l", f"size={LOG}", file)
    # discard: what is deleted in it is given back to the computer's disk.
    run("mount", "-o", "loop,discard,noatime", file, places.store)


def taken_in(places: Places, name: str, original: Path) -> Path:
    """The copy in the store of a file of the cache; made at its first use, which is the one that takes time."""
    copy = places.store / name
    with _copying:
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            half = copy.with_name(f".{copy.name}.half")
            run("cp", "--sparse=always", original, half, timeout=300)
            half.rename(copy)
    return copy


def stop(places: Places, deadline: float = 10) -> None:
    """Unmounts it. What used it must be dead. May be repeated, also after a kill.

    Raises RehostError when it is still in use.
    """
    loops.release_inside(_file(places))
    end = time.monotonic() + deadline
    while str(places.store) in _mount_points():
        try:
            run("umount", places.store)
        except RehostError:
            # The kernel takes a mount namespace apart a moment after its last process has gone.
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
    loops.release(_file(places))


def _mount_points() -> list[str]:
    return [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]


def _file(places: Places) -> Path:
    return places.state / "store.xfs"
