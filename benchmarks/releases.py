"""Releases beside other ways to do the nearest same thing, to the same machine, at two round trips. Needs a lab (root).

Prints medians, their ratios to rehost's, how many sessions were opened on the machine (what sshd logs: one for each
remote command), and how many bytes were sent to it. Everything that goes to the machine's ssh and http ports, of rehost
and of all others, goes through the relay of relay.py. The lab's Compute API is on this computer and not delayed; no
command that is timed here asks it. Figures of one run are comparable with each other only.
"""

from __future__ import annotations

import argparse
import gzip
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

sys.path[:0] = [
    str(Path(__file__).resolve().parents[1] / "tests" / kind) for kind in ("lab", "unit", "labparts")
]

from rehost.lab import control
from relay import Relay, relay
from rivals import Act, Rivals
from suite import REPOSITORY, Laptop
from tiny import APP, GCE

LAB = "bench"
NAME = "bench"
ROUND_TRIPS = (0.0, 0.1)
LINES = 12_000  # of the file that changes: about 1 MB
FILES = 10  # beside it, which do not change: 4 MB
DOCKERFILE = """FROM python:3.11-slim-bookworm
WORKDIR /srv
COPY data data
COPY app.py changed.txt ./
CMD ["python", "-u", "app.py"]
"""


class Goal(NamedTuple):
    """Of the project itself. seconds: at each of the round trips."""

    seconds: tuple[float, float]
    sessions: int | None = None

    def text(self, trip: float) -> str:
        most = f", {self.sessions} sessions" if self.sessions else ""
        return f"{self.seconds[ROUND_TRIPS.index(trip)]} s{most}"


@dataclass
class Found:
    """What one contestant took, each round. sent: bytes to the machine; changed: bytes, compressed, if some did."""

    seconds: list[float] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)
    sessions: int = 0
    changed: int | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def __str__(self) -> str:
        sent = statistics.median(self.sent)
        times = f", {sent / self.changed:.2f} x what changed, compressed" if self.changed else ""
        return f"{self.sessions:3} sessions {sent / 1000:9.1f} kB sent{times}"


GOALS = {
    "nothing changed": Goal((0.5, 1.5), 1),
    "one layer changed": Goal((1.5, 3.0), 4),
    "rollback": Goal((1.0, 3.0)),
}


class Bench:
    """The app here, the machine there, and everybody who brings the one to the other."""

    def __init__(self, laptop: Laptop, line: Relay, rivals: Rivals, rounds: int) -> None:
        self.laptop, self.line, self.rivals, self.rounds = laptop, line, rivals, rounds
        self._two = [0, 0]
        self._random = random.Random(1)  # noqa: S311
        self._words = ["".join(self._random.choices("abcdefghijklmnop", k=7)) for _ in range(4000)]

    def change_layer(self) -> int:
        """Writes another megabyte. Returns how many bytes that is, compressed."""
        text = "\n".join(" ".join(self._random.choices(self._words, k=11)) for _ in range(LINES)).encode()
        (self.laptop.directory / "app" / "changed.txt").write_bytes(text)
        return len(gzip.compress(text, 6))

    def change_env(self) -> None:
        write_env(self.laptop.directory, str(self._random.random()))

    def rehost(self, *words: str) -> None:
        self.laptop.run(*words)

    def sessions(self) -> int:
        """How many sessions sshd has opened so far, this one included. Asked without delay, and not counted."""
        trip, self.line.round_trip = self.line.round_trip, 0.0
        found = self.rivals.root(
            "journalctl --sync; journalctl -t sshd -o cat --no-pager | grep -c '^Starting session'"
        )
        self.line.round_trip = trip
        return int(found)

    def rows(
        self, scenario: str, contestants: Mapping[str, Act], before: Callable[[str], int | None]
    ) -> None:
        """Times each contestant; before(name) is not timed. The first of them is rehost."""
        found = {name: Found() for name in contestants}
        for number in range(self.rounds):
            for name, act in contestants.items():  # in turns: what else this computer does meets all alike
                one = found[name]
                one.changed = before(name)
                had = self.sessions() if number == 0 else 0
                # What the one before left to be written (docker load: 200 MB) is not for this one to wait for.
                os.sync()
                self.line.count()
                began = time.perf_counter()
                act()
                one.seconds.append(time.perf_counter() - began)
                one.sent.append(self.line.count()[0])
                if number == 0:
                    one.sessions = self.sessions() - had - 1
        trip = self.line.round_trip
        goal = GOALS.get(scenario)
        print(
            f"\n{scenario}, round trip {trip * 1000:.0f} ms" + (f" (goal: {goal.text(trip)})" if goal else "")
        )
        base = next(iter(found.values())).median
        for name, one in found.items():
            print(f"  {name:<27} {one.median:7.2f} s {one.median / base:6.1f} x  {one}", flush=True)

    def all(self) -> None:
        deploys: dict[str, Act] = {"rehost deploy": lambda: self.rehost("deploy"), **self.rivals.deploys()}
        skipping = {name: act for name, act in deploys.items() if not name.startswith("ssh docker load")}

        def nothing(_name: str) -> None:
            return None

        def layer(name: str) -> int:
            changed = self.change_layer()
            if name.startswith("ssh docker load"):
                self._undelayed(self.rivals.ready_image)
            return changed

        for trip in ROUND_TRIPS:
            self.line.round_trip = 0.0
            for act in skipping.values():  # all have the same, whatever came before
                act()
            self.line.round_trip = trip
            self.rows("nothing changed", skipping, nothing)
            self.rows("one layer changed", deploys, layer)
            self._undelayed(lambda: [act() for act in skipping.values()])
            self.rows("environment changed", skipping, lambda _name: self.change_env())
            newest = int(self.laptop.run("status", "--json").result["release"])
            self._two = [newest - 1, newest]
            back: dict[str, Act] = {"rehost rollback": self._back, **self.rivals.back()}
            self.rows("rollback", back, nothing)
            self.rows("logs", {"rehost logs": lambda: self.rehost("logs"), **self.rivals.logs()}, nothing)
            self.rows("ssh true beside it", {"ssh true": self.rivals.ssh_true}, nothing)
        self.line.round_trip = 0.0
        starts: dict[str, Act] = {"rehost --help": lambda: self.rehost("--help")}
        self.rows("start of the program", {**starts, **self.rivals.starts()}, nothing)

    def _back(self) -> None:
        """To the release before the newest, or forwards again."""
        self.rehost("rollback", str(self._two[0]))
        self._two.reverse()

    def _undelayed(self, act: Callable[[], object]) -> None:
        trip, self.line.round_trip = self.line.round_trip, 0.0
        act()
        self.line.round_trip = trip


def write_env(directory: Path, value: str) -> None:
    file = directory / ".env.prod"
    file.write_text(f"VALUE={value}\n")
    file.chmod(0o600)


def plant(directory: Path) -> None:
    """An app of some megabytes of which one file changes."""
    app = directory / "app"
    (app / "data").mkdir(parents=True)
    (app / "Dockerfile").write_text(DOCKERFILE)
    (app / "changed.txt").write_text("first")
    write_env(directory, "0")
    (app / "app.py").write_text(APP.replace("CODE", '"one"'))
    source = random.Random(2)  # noqa: S311
    for number in range(FILES):
        (app / "data" / f"{number}.bin").write_bytes(source.randbytes(400_000))
    (directory / "rehost.toml").write_text(
        f'app = "{NAME}"\n{GCE.replace("e2-micro", "e2-standard-2")}'
        '[build]\ncontext = "app"\ndockerfile = "app/Dockerfile"\n'
        '[run]\nport = 8080\nhealth = "/health"\nstop_grace = "5s"\n[env]\nfiles = [".env.prod"]\n'
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench releases", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="How often each is timed. [default: 5]")
    rounds = parser.parse_args().rounds
    # As installed: with byte code kept, whatever this shell says.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPATH"] = str(REPOSITORY / "src")
    info = control.up(LAB, lambda text: print(text, file=sys.stderr))
    try:
        with tempfile.TemporaryDirectory() as place:
            home = Path(place)
            config = home / "config"
            environ = {**os.environ, **control.environment(LAB), "XDG_CONFIG_HOME": str(config)}
            laptop = Laptop(home / "project", environ)
            laptop.directory.mkdir()
            plant(laptop.directory)
            print("moving the app onto a machine", file=sys.stderr)
            laptop.run("up", "--yes")
            laptop.run("ssh", "--", "true")  # writes known_hosts
            known = laptop.directory / ".rehost" / "cache" / "known_hosts"
            machine = known.read_text().split()[0]
            rivals = Rivals(
                home, laptop.directory / "app", laptop.directory / ".env.prod", machine,
                config / "rehost" / "ssh" / "id_ed25519", known,
            )  # fmt: skip
            print("preparing the others", file=sys.stderr)
            rivals.prepare()
            rivals.root("apt-get -qq update && apt-get -qq -y install rsync >/dev/null 2>&1")
            rivals.root("echo 'LogLevel VERBOSE' >/etc/ssh/sshd_config.d/bench.conf && systemctl restart ssh")
            # What docker load is given needs something to leave out: the base and the data are there already.
            with relay(machine, info.gateway, (22, 80)) as line:
                bench = Bench(laptop, line, rivals, rounds)
                rivals.ready_image()
                rivals.load()
                bench.all()
    finally:
        control.down(LAB)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as failed:
        raise SystemExit(f"{failed.cmd} ended with {failed.returncode}") from failed
