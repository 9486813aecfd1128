"""lxcfs, one for each lab: files that show a machine its own memory and processors in place of the host's."""

from __future__ import annotations

import time
from pathlib import Path

from rehost.lab.places import Places
from rehost.lab.programs import Program, run, spawn


def start(places: Places, deadline: float = 10) -> Program:
    """Mounts it below the state directory. Raises RehostError with its last lines. Call before machines boot."""
    stop(places)
    places.lxcfs.mkdir(exist_ok=True)
    argv: list[str | Path] = ["lxcfs", "-f", "-l", "-p", places.state / "lxcfs.pid", places.lxcfs]
    program = Program("lxcfs", places.log("lxcfs"), spawn(places, "lxcfs", argv))
    end = time.monotonic() + deadline
    while not (places.lxcfs / "proc/meminfo").exists():
        if not program.alive() or time.monotonic() > end:
            program.stop(1)
            raise program.failure(f"did not start within {deadline:.0f} s")
        time.sleep(0.02)
    return program


def mounted(places: Places) -> bool:
    # Not os.path.ismount: a mount whose server was killed answers every question with an error.
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return any(line.split()[4] == str(places.lxcfs) for line in mounts)


def stop(places: Places) -> None:
    """Unmounts it, which ends it. May be repeated, also after it was killed."""
    while mounted(places):
        run("umount", "--lazy", places.lxcfs)
