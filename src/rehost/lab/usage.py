"""How much of the computer a lab takes: memory of its machines and programs, and disk."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from rehost.lab import cgroups, clean
from rehost.lab.places import Places


def machine_memory(places: Places, machine: str) -> int:
    """Bytes that a machine's processes hold, file cache that can go at once left out; 0 when it does not run.

    The kernel's documentation of the memory controller: usage_in_bytes and total_inactive_file in v1, memory.current
    and inactive_file in v2.
    """
    for one in cgroups.hierarchies():
        group = one.root / places.cgroup / machine
        for usage, cache in (
            ("memory.usage_in_bytes", "total_inactive_file"),
            ("memory.current", "inactive_file"),
        ):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                used = int((group / usage).read_text())
                return max(used - _stat((group / "memory.stat").read_text(), cache), 0)
    return 0


def programs_memory(places: Places) -> int:
    """Resident bytes of the lab's own programs: server, mirror, database, launchers. Shared pages count in each."""
    total = 0
    for pid in clean.marked(places.prefix) - cgroups.processes(places):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            total += _stat(Path(f"/proc/{pid}/status").read_text(), "VmRSS:") * 1024
    return total


def disk(places: Places) -> int:
    """Bytes that the lab's files take on the computer's disk. They are sparse: not what they seem to hold."""
    blocks, here = 0, places.state.stat().st_dev
    for directory, inner, names in os.walk(places.state):
        if Path(directory).stat().st_dev != here:  # mounted: its blocks are those of a file that is counted
            inner.clear()
            continue
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # the lab goes on meanwhile
                blocks += Path(directory, name).lstat().st_blocks
    return blocks * 512  # stat(2): st_blocks counts units of 512 bytes


def _stat(text: str, key: str) -> int:
    """The first number after a key that begins a line; 0 without it."""
    for line in text.splitlines():
        words = line.split()
        if words and words[0] == key:
            return int(words[1])
    return 0
