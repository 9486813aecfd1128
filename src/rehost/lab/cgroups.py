"""A machine's limits: one cgroup of its own in every hierarchy, so that all it runs shares them.

cgroup v1 is what this was built and tested on. v2 is handled as the kernel's documentation says, untested.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from rehost.lab.hardware import Hardware
from rehost.lab.places import Places
from rehost.run.errors import RehostError

PERIOD_US = 100_000  # of the processor's quota; the kernel's default
_RETRY = 0.02
_V2_CONTROLLERS = ("cpu", "memory", "pids")


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """One mounted cgroup file system. controllers: of v1, by name; empty for v2 and for systemd's own."""

    root: Path
    v2: bool
    controllers: frozenset[str]


def parse_mounts(mountinfo: str) -> list[Hierarchy]:
    """The hierarchies in /proc/self/mountinfo, each once."""
    found: dict[str, Hierarchy] = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or len(kind) < 3 or kind[0] not in ("cgroup", "cgroup2"):
            continue
        # fields[3] is what of the hierarchy is mounted there: a container's host shows a part of it.
        options = frozenset(option for option in kind[2].split(",") if option not in ("rw", "ro"))
        names = frozenset() if kind[0] == "cgroup2" else options
        found.setdefault(fields[2], Hierarchy(Path(fields[4]), kind[0] == "cgroup2", names))
    return list(found.values())


def hierarchies() -> list[Hierarchy]:
    return parse_mounts(Path("/proc/self/mountinfo").read_text())


def unified(present: list[Hierarchy]) -> bool:
    """Whether limits are set through v2. On a hybrid host v2 is mounted beside v1, without controllers."""
    return not any("memory" in one.controllers for one in present)


def limits(hardware: Hardware, one: Hierarchy) -> dict[str, str]:
    """Files of a machine's cgroup in that hierarchy and what is written to them, in order (pure)."""
    memory = str(hardware.memory_mib << 20)
    quota = round(hardware.cpus * PERIOD_US)
    if one.v2:
        return {"memory.max": memory, "memory.swap.max": "0", "cpu.max": f"{quota} {PERIOD_US}"}
    out: dict[str, str] = {}
    if "memory" in one.controllers:
        # memsw counts memory and swap: a machine without swap of its own gets none of the host's.
        out |= {"memory.limit_in_bytes": memory, "memory.memsw.limit_in_bytes": memory}
    if "cpu" in one.controllers:
        out |= {"cpu.cfs_period_us": str(PERIOD_US), "cpu.cfs_quota_us": str(quota)}
    return out


def create(places: Places, machine: str, hardware: Hardware) -> list[Path]:
    """Makes the machine's cgroups and sets its limits. Returns the files that a process joins them by."""
    present = hierarchies()
    by_v2 = unified(present)
    joins = []
    for one in present:
        group = one.root / places.cgroup / machine
        if one.v2 and by_v2:
            (one.root / places.cgroup).mkdir(exist_ok=True)
            for above in (one.root, one.root / places.cgroup):
                _write(above / "cgroup.subtree_control", " ".join(f"+{name}" for name in _V2_CONTROLLERS))
        group.mkdir(parents=True, exist_ok=True)
        if "cpuset" in one.controllers:  # takes no process before it has processors and memory
            for level in (group.parent, group):
                for file in ("cpuset.cpus", "cpuset.mems"):
                    _write(level / file, (level.parent / file).read_text().strip())
        if not one.v2 or by_v2:
            for file, value in limits(hardware, one).items():
                # Kernels may lack swap accounting; memory is limited all the same.
                if (group / file).exists() or "sw" not in file:
                    _write(group / file, value)
        joins.append(group / "cgroup.procs")
    return joins


def used(places: Places, machine: str) -> float:
    """Seconds of processor time that the machine has used since it was switched on. Raises FileNotFoundError when
    it is off."""
    for one in hierarchies():
        group = one.root / places.cgroup / machine
        if "cpuacct" in one.controllers:
            return int((group / "cpuacct.usage").read_text()) / 1e9
        if (group / "cpu.stat").exists() and one.v2:
            fields = dict(line.split() for line in (group / "cpu.stat").read_text().splitlines())
            return int(fields["usage_usec"]) / 1e6
    raise FileNotFoundError(f"no cgroup counts the processor time of {machine}")


def allow_cpus(places: Places, machine: str, cpus: float) -> None:
    """Another limit of processor time a second. Raises FileNotFoundError when the machine is off."""
    quota = round(cpus * PERIOD_US)
    for one in hierarchies():
        group = one.root / places.cgroup / machine
        if "cpu" in one.controllers:
            (group / "cpu.cfs_quota_us").write_text(str(quota))
        elif (group / "cpu.max").exists():
            (group / "cpu.max").write_text(f"{quota} {PERIOD_US}")


def allow_swap(places: Places, machine: str, hardware: Hardware, swap_bytes: int) -> None:
    """The machine may use as much swap as it has itself. lxcfs shows as its SwapTotal what of this computer's swap the
    limit of memory and swap together allows, which is more where other machines have swap, too."""
    for one in hierarchies():
        group = one.root / places.cgroup / machine
        for file, value in (
            ("memory.memsw.limit_in_bytes", (hardware.memory_mib << 20) + swap_bytes),
            ("memory.swap.max", swap_bytes),
        ):
            if (group / file).exists():
                # Less than is in use is refused (EBUSY) while swapoff brings pages back; it is asked again then.
                with contextlib.suppress(BlockingIOError, OSError):
                    (group / file).write_text(str(value))


def processes(places: Places, machine: str = "") -> set[int]:
    """Process ids in the cgroups of one machine, or of the whole lab."""
    found: set[int] = set()
    for group in groups(places, machine):
        with contextlib.suppress(OSError):
            found.update(int(pid) for pid in (group / "cgroup.procs").read_text().split() if pid != "0")
    return found


def groups(places: Places, machine: str = "") -> list[Path]:
    """The cgroups of one machine or of the whole lab that exist, innermost first."""
    found: list[Path] = []
    for one in hierarchies():
        top = one.root / places.cgroup / machine
        for directory, _, _ in os.walk(top, topdown=False):
            found.append(Path(directory))
    return found


def freeze(places: Places, machine: str, deadline: float = 10) -> None:
    """Every process of the machine stops where it is, those of its containers too. Raises RehostError when some
    do not. Through v2, which is mounted beside v1, too: a process that v1 has frozen can't be killed."""
    group = _frozen_by(places, machine)
    _write(group / "cgroup.freeze", "1")
    end = time.monotonic() + deadline
    while "frozen 1" not in (group / "cgroup.events").read_text():
        if time.monotonic() > end:
            _write(group / "cgroup.freeze", "0")
            raise RehostError(
                f"the processes of the lab's machine {machine!r} do not stop",
                cure="One of them waits for a disk. Try again in a moment.",
                retryable=True,
            )
        time.sleep(_RETRY)


def thaw(places: Places, machine: str) -> None:
    _write(_frozen_by(places, machine) / "cgroup.freeze", "0")


def _frozen_by(places: Places, machine: str) -> Path:
    root = next((one.root for one in hierarchies() if one.v2), None)
    if root is None:
        raise RehostError(
            "this computer's kernel has cgroup v2 switched off, so the lab can't suspend a machine",
            cure="Stop the machine instead, or start the computer without `systemd.legacy_systemd_cgroup_controller`.",
        )
    return root / places.cgroup / machine


def kill(places: Places, machine: str = "", deadline: float = 15) -> None:
    """Power cut: SIGKILL to every process until none is left. Raises RehostError when some do not go."""
    end = time.monotonic() + deadline
    while alive := processes(places, machine):
        for pid in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > end:
            raise RehostError(
                f"{len(alive)} processes of the lab's machine {machine or places.name!r} do not end",
                cure=f"Look at them with `ps {min(alive)}`; a process in uninterruptible sleep waits for a disk.",
            )
        time.sleep(_RETRY)


def remove(places: Places, machine: str = "", deadline: float = 5) -> None:
    """Removes the cgroups, which must be empty of processes. May be repeated."""
    end = time.monotonic() + deadline
    while left := groups(places, machine):
        for group in left:
            try:
                group.rmdir()
            except FileNotFoundError:
                continue
            except OSError as failure:
                # The kernel lets a killed process go a moment after it left the list.
                if failure.errno != errno.EBUSY or time.monotonic() > end:
                    raise RehostError(
                        f"the cgroup {group} can't be removed: {failure.strerror}",
                        cure="Run `rehost lab down` again in a moment.",
                    ) from failure
        time.sleep(_RETRY)


def _write(file: Path, value: str) -> None:
    try:
        file.write_text(value)
    except OSError as failure:
        raise RehostError(
            f"the kernel did not take {value!r} for {file}: {failure.strerror}",
            cure="The lab needs the memory and cpu controllers; `rehost lab up` names what is missing.",
        ) from failure
