"""A seeded storm over `rehost up`: each run ends done, or says what was wrong and leaves what the next run completes.

REHOST_STORM_RUNS: how many (a few by default). REHOST_STORM_SEED: where they start; run number N of seed S is the
storm S + N, so a run that failed is repeated alone by its own seed.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rehost.lab import control
from rehost.lab.storm import Gust, storm
from rehost.run.errors import RehostError
from suite import Lab, Laptop
from tiny import GCE, plant, set_code, set_env

RUNS = int(os.environ.get("REHOST_STORM_RUNS", "4"))
SEED = int(os.environ.get("REHOST_STORM_SEED", "1"))
FRESH_EVERY = 12  # so many runs share a machine; the first of them makes it in a storm
SECONDS = 5.0  # how long a storm blows
DEADLINE = 300  # seconds for one command: more than any patience that rehost has in these faults
APP = "stormy"

UNREACHABLE = (
    r"ssh connection|no ssh|nothing answers on the ssh port|does not answer from here|host keys|let us in"
)
NO_API = r"problem of its own|no answer from|not the API's"
# By what words an error that a fault caused is known.
WORDS = {
    "stockout": r"no machine of this type left",
    "quota": r"quota",
    "accessNotConfigured": r"not enabled",
    "billing": r"billing",
    "rateLimitExceeded": r"too many requests",
    "429": r"too many requests",
    "401": r"credentials",
    "404": r"not found|there is no|deleted meanwhile",
    "409": r"already exists",
    "operation-409": r"already exists",
    "412": r"changed by somebody else",
    "operation-412": r"changed by somebody else",
    "500": NO_API,
    "502": NO_API,
    "503": NO_API,
    "reset": NO_API,
    "lost": NO_API,
    "truncated": NO_API,
    "slow": r"not done after",
    "disk-full": r"disk is full|No space left|no space left|not enough room|full disk",
    "memory-eaten": rf"memory|not healthy within|{UNREACHABLE}",
    "docker-stopped": r"Docker",
    "apt-locked": r"package manager|lock",
    "archive-unreachable": r"archive|packages",
    "internet-cut": r"archive|packages|network",
    "startup-fails": r"startup script",
    "startup-slow": r"startup script",
    "boot-slow": UNREACHABLE,
    "agent-late": UNREACHABLE,
    "ssh-late": UNREACHABLE,
    "net-cut": UNREACHABLE,
    "net-slow": UNREACHABLE,
    "net-lossy": UNREACHABLE,
    "power-cut": rf"{UNREACHABLE}|TERMINATED|STOPPING|does not run|cut off|switched off",
    "preempted": rf"{UNREACHABLE}|TERMINATED|STOPPING|does not run|cut off|switched off",
}


@dataclass
class Run:
    """One `rehost up` in one storm, and the one after it. wrong: what must not be."""

    seed: int
    gusts: Sequence[Gust]
    came: list[str] = field(default_factory=list)
    code: int = -1
    said: str = ""
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        storm_text = "\n".join(gust.text for gust in self.gusts)
        return (
            f"storm {self.seed}: {'; '.join(self.wrong)}\n{storm_text}\nended with {self.code}\n{self.said}\n"
        )


def test_every_storm_ends_well_or_says_why_and_the_next_run_completes(
    lab: Lab, laptops: Callable[[str], Laptop]
) -> None:
    laptop = laptops("stormy")
    plant(laptop.directory, GCE, app=APP, VALUE="before the storm")
    ran: list[Run] = []
    for number in range(RUNS):
        fresh = number % FRESH_EVERY == 0
        if fresh and number:
            laptop.run("down", "--yes")
        ran.append(_weathered(lab, laptop, SEED + number, fresh=fresh))
        one = ran[-1]
        sys.stdout.write(f"storm {one.seed}: {one.code}, {', '.join(one.came)} {one.wrong or ''}\n")
        sys.stdout.flush()
    laptop.run("down", "--yes")
    assert not [str(run) for run in ran if run.wrong]


def _weathered(lab: Lab, laptop: Laptop, seed: int, *, fresh: bool) -> Run:
    gusts = storm(seed, APP, seconds=SECONDS, gusts=1 + seed % 3, fresh=fresh)
    run = Run(seed, gusts)
    value = f"after storm {seed}"
    set_env(laptop.directory, VALUE=value)
    if seed % 2:
        set_code(laptop.directory, f"code {seed}")
    over = threading.Event()
    blowing = threading.Thread(target=_blow, args=(lab, run, over))
    for gust in (gust for gust in gusts if gust.after == 0):
        _order(lab, run, gust)
    blowing.start()
    try:
        ended = _up(laptop, run)
    finally:
        over.set()
        blowing.join()
        control.clear_faults(lab.name)
    if ended is None:
        return run
    if run.code not in (0, 1, 3):
        run.wrong.append(f"it ended with {run.code}")
    if run.code:
        _judge(run, ended.get("error", {}))
    _check_after(lab, laptop, run, value)
    return run


def _up(laptop: Laptop, run: Run) -> dict[str, Any] | None:
    """Runs `up`; its last object of --json, None when it did not end."""
    try:
        done = subprocess.run(
            laptop.line("up", "--yes", "--json"), cwd=laptop.directory, env=dict(laptop.environ),
            capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, timeout=DEADLINE,
        )  # fmt: skip
    except subprocess.TimeoutExpired as late:
        run.said = (late.stdout or b"").decode(errors="replace")[-3000:]
        run.wrong.append(f"it did not end within {DEADLINE} s")
        return None
    lines = [line for line in done.stdout.splitlines() if '"log"' not in line]
    run.code, run.said = done.returncode, "\n".join([*lines[-12:], done.stderr])
    if "fault in rehost" in run.said or "Traceback" in run.said:
        run.wrong.append("it is a fault in rehost")
    ended: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return ended


def _judge(run: Run, error: dict[str, Any]) -> None:
    """An error must name one of the faults that came, and a cure."""
    text = " ".join(str(error.get(part, "")) for part in ("what", "cure", "detail"))
    if not any(re.search(WORDS[fault], text) for fault in run.came):
        run.wrong.append("the error names none of the faults")
    if not error.get("cure"):
        run.wrong.append("the error has no cure")


def _check_after(lab: Lab, laptop: Laptop, run: Run, value: str) -> None:
    """The next run completes what is left, and the app serves what was wanted."""
    again = laptop.run("up", "--yes", "--json", code=None)
    if again.code:
        run.wrong.append(f"the next run ended with {again.code}: {again.said[-1500:]}")
        return
    status = laptop.run("status", "--json", code=None)
    if status.code:
        run.wrong.append(f"the status afterwards is {status.code}: {status.said[-1500:]}")
        return
    served = lab.get(f"http://{status.result['address']}/")
    if served.status_code != 200 or served.json()["value"] != value:
        run.wrong.append(f"afterwards it serves {served.status_code} {served.text}")
    # A machine that is switched off in the moment in which `up` ends was served rightly.
    switched_off = {"power-cut", "preempted"} & set(run.came) and '"power/' in again.said
    if run.code == 0 and again.result["changed"] and not switched_off:
        run.wrong.append(f"it said done, and the next run still found something to do: {again.said[-2500:]}")


def _blow(lab: Lab, run: Run, over: threading.Event) -> None:
    waited = 0.0
    for gust in run.gusts:
        if gust.after == 0:
            continue
        if over.wait(gust.after - waited):
            return
        waited = gust.after
        _order(lab, run, gust)


def _order(lab: Lab, run: Run, gust: Gust) -> None:
    try:
        control.order_fault(lab.name, **gust.order)
    except RehostError:
        return  # what came before is in its way: a machine that is off has no disk to fill
    run.came.append(str(gust.order["fault"]))
