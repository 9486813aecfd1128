"""Sweeping: everything of a lab goes, whatever state it was left in. Found by name in the kernel and on disk, and
by the marker in processes' environments; never by a recorded process id alone.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Collection
from pathlib import Path

from rehost.lab import cgroups, disks, loops, network, store
from rehost.lab.machines import nspawn_directories, remove_nspawn_directories
from rehost.lab.places import MARKER, Places
from rehost.lab.programs import run
from rehost.run.errors import RehostError

_RETRY = 0.02


def sweep(places: Places, keep: Collection[int] = ()) -> None:
    """Ends every process of the lab but `keep` and their parents, then removes what they held, and the files.

    May be repeated; touches nothing of other labs. Raises RehostError when something does not go.
    """
    spared = {os.getpid(), *keep}
    spared |= {ancestor for pid in tuple(spared) for ancestor in _ancestors(pid)}
    disks.thaw(places)
    _kill(places, spared)
    cgroups.remove(places)
    store.stop(places)
    _unmount(places)
    loops.release(places.state, pulled=True)
    network.down(places)
    remove_nspawn_directories(places.prefix)
    if places.state.exists():
        shutil.rmtree(places.state)


def leftovers(places: Places, keep: Collection[int] = ()) -> list[str]:
    """What of the lab still exists, one line for each thing."""
    spared = {os.getpid(), *keep}
    spared |= {ancestor for pid in tuple(spared) for ancestor in _ancestors(pid)}
    found = [f"process {pid}: {_words(pid)}" for pid in sorted(_processes(places) - spared)]
    found += [f"cgroup {group}" for group in cgroups.groups(places) if group.name == places.cgroup]
    found += [f"network interface {link}" for link in network.links(places)]
    found += [f"network namespace {space}" for space in network.namespaces(places)]
    found += [f"nft table {family} {places.table}" for family in network.tables(places)]
    found += [f"mount {point}" for point in _mounts(places)]
    found += [f"loop device {device}" for device in loops.found(places.state, pulled=True)]
    found += [f"directory {directory}" for directory in nspawn_directories(places.prefix)]
    found += [f"directory {places.state}"] if places.state.exists() else []
    return found


def marked(prefix: str) -> set[int]:
    """Processes whose environment says that a lab of that prefix started them."""
    needle = f"{MARKER}={prefix}".encode()
    found = set()
    for process in Path("/proc").iterdir():
        # Gone meanwhile, or somebody else's: neither is of our lab.
        with contextlib.suppress(OSError):
            if process.name.isdecimal() and needle in (process / "environ").read_bytes().split(b"\0"):
                found.add(int(process.name))
    return found


def _processes(places: Places) -> set[int]:
    return marked(places.prefix) | cgroups.processes(places)


def _kill(places: Places, spared: set[int], deadline: float = 15) -> None:
    """Until none is left: a launcher may start a machine again between two looks."""
    end = time.monotonic() + deadline
    while alive := {pid for pid in _processes(places) - spared if not _zombie(pid)}:
        if time.monotonic() > end:
            words = "\n".join(f"{pid}: {_words(pid)}" for pid in sorted(alive))
            raise RehostError(
                f"{len(alive)} processes of the lab {places.name!r} do not end",
                cure="Run `rehost lab down` again; if they stay, they wait for a disk: look at `dmesg`.",
                detail=words,
            )
        # Marked ones first: launchers, who would boot a machine again.
        for pid in [*(alive & marked(places.prefix)), *alive]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_RETRY)


def _zombie(pid: int) -> bool:
    """Dead already, its parent has not asked; or gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def _ancestors(pid: int) -> list[int]:
    found = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        while pid > 1:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
            found.append(pid)
    return found


def _words(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:120]
    return "(gone)"


def _mounts(places: Places) -> list[str]:
    """Mount points below the state directory and itself, innermost first."""
    inside = f"{places.state}/"
    # Spaces stand as \\040 in this file.
    points = [
        line.split()[4].replace("\\040", " ")
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
    ]
    ours = (point for point in points if point == str(places.state) or point.startswith(inside))
    return sorted(ours, reverse=True)


def _unmount(places: Places) -> None:
    for point in _mounts(places):
        run("umount", "--lazy", point)
