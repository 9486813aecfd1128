"""What a person waits for every day, beside a bare `ssh true` to the same machine. Prints medians and ratios.

Once on an e2-micro and once on an e2-medium: both burst to two processors, and the former has a quarter of one when
its credit is used. Needs a lab (root). Figures of one run are comparable with each other only.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path[:0] = [
    str(Path(__file__).resolve().parents[1] / "tests" / kind) for kind in ("lab", "unit", "labparts")
]

from rehost.lab import control
from suite import REPOSITORY, Laptop
from tiny import GCE, plant, set_env

LAB = "bench"


def seconds(act: Callable[[], object], times: int) -> float:
    """The median."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        act()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def main() -> None:
    # As installed: with byte code kept, whatever this shell says.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPATH"] = str(REPOSITORY / "src")
    control.up(LAB, lambda text: print(text, file=sys.stderr))
    try:
        for kind in ("e2-micro", "e2-medium"):
            with tempfile.TemporaryDirectory() as directory:
                home = Path(directory)
                environ = {**os.environ, **control.environment(LAB), "XDG_CONFIG_HOME": str(home / "config")}
                laptop = Laptop(home / "app", environ)
                laptop.directory.mkdir()
                plant(laptop.directory, GCE.replace("e2-micro", kind), VALUE="0")
                print(f"moving a tiny app onto an {kind}", file=sys.stderr)
                laptop.run("up")
                print(f"\n{kind}")
                report(laptop)
                laptop.run("down", "--yes")
    finally:
        control.down(LAB)


def report(laptop: Laptop) -> None:
    numbers = iter(range(1, 1000))

    def changed() -> None:
        set_env(laptop.directory, VALUE=str(next(numbers)))
        laptop.run("deploy")

    key = next(laptop.directory.parent.glob("config/rehost/ssh/id_ed25519"))
    known = laptop.directory / ".rehost" / "cache" / "known_hosts"
    laptop.run("ssh", "--", "true")
    address = known.read_text().split()[0]
    bare = [
        "ssh", "-o", f"UserKnownHostsFile={known}", "-o", "StrictHostKeyChecking=yes", "-i", str(key),
        f"rehost@{address}", "true",
    ]  # fmt: skip
    rows = [
        ("ssh true (OpenSSH, a new connection)", lambda: subprocess.run(bare, check=True), 15),
        ("rehost --help", lambda: laptop.run("--help"), 15),
        ("rehost up, nothing changed", lambda: laptop.run("up"), 15),
        ("rehost deploy, nothing changed", lambda: laptop.run("deploy"), 15),
        ("rehost status", lambda: laptop.run("status"), 7),
        ("rehost deploy, environment changed", changed, 3),
        ("rehost rollback", lambda: laptop.run("rollback", code=None), 2),
    ]
    base = 0.0
    for name, act, times in rows:
        found = seconds(act, times)
        base = base or found
        print(f"{name:<38} {found:7.3f} s   {found / base:6.1f} x")


if __name__ == "__main__":
    main()
