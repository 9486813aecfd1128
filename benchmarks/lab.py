"""What the lab costs: how long its machines take, and how much of the computer. Needs root.

`lab.py [--json] [--rounds N] [--cold]`. Medians of the rounds. Figures of one computer, at one time, are comparable
with each other only. --cold also builds the trees from nothing, in a cache of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path[:0] = [
    str(Path(__file__).resolve().parents[1] / "tests" / kind) for kind in ("lab", "unit", "labparts")
]

from compute_api import DEBIAN, ComputeApi
from rehost.lab import control, trees
from rehost.lab.places import Places, cache_directory
from suite import REPOSITORY, Lab

NAME = "bench-lab"
MANY = 10
TYPE = "e2-micro"
IMAGE = "with-docker"
DEADLINE = 300.0
INSTALL = "sudo DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends docker.io >/dev/null 2>&1"
READY = "sudo docker info --format '{{.ServerVersion}}'"
_POLL = 0.02


def say(text: str) -> None:
    print(text, file=sys.stderr)


def clock(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


class Bench:
    """A lab, its API, and a key that its machines let in."""

    def __init__(self, lab: Lab, home: Path) -> None:
        self.lab, self._key = lab, home / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self._key], check=True)
        self._public = self._key.with_suffix(".pub").read_text().strip()
        self.api = ComputeApi(lab)

    def insert(self, name: str, image: str = DEBIAN, *, external: bool = True) -> None:
        nic: dict[str, object] = {"network": "global/networks/default"}
        if external:
            nic["accessConfigs"] = [{"type": "ONE_TO_ONE_NAT"}]
        disk = {"boot": True, "autoDelete": True, "initializeParams": {"sourceImage": image}}
        keys = {"items": [{"key": "ssh-keys", "value": f"bench:{self._public}"}]}
        self.api.insert(name, disk, networkInterfaces=[nic], metadata=keys)

    def address(self, name: str) -> str:
        nic = self.api.get(f"instances/{name}")["networkInterfaces"][0]
        return str(nic["accessConfigs"][0]["natIP"] if "accessConfigs" in nic else nic["networkIP"])

    def delete(self, name: str) -> None:
        self.api.done("DELETE", f"instances/{name}")

    def ssh(self, name: str, command: str = "true") -> bool:
        # Neither the user's settings nor an unknown host key may count.
        options = ["BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "ConnectTimeout=2",
                   "LogLevel=ERROR"]  # fmt: skip
        words = [word for option in options for word in ("-o", option)]
        line = ["ssh", "-F", "none", *words, "-i", str(self._key), f"bench@{self.address(name)}", command]
        quiet = subprocess.DEVNULL
        return subprocess.run(line, stdin=quiet, stdout=quiet, stderr=quiet, check=False).returncode == 0

    def answers(self, name: str) -> bool:
        """Whether sshd says its name: what `ssh answers` means."""
        try:
            with socket.create_connection((self.address(name), 22), 1) as connection:
                connection.settimeout(2)
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False

    def until(self, true: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + DEADLINE
        while not true():
            if time.monotonic() > end:
                raise TimeoutError(f"not within {DEADLINE:.0f} s: {what}")
            time.sleep(_POLL)

    def ready(self, name: str) -> None:
        """Docker answers to somebody who has logged in."""
        self.until(lambda: self.ssh(name, READY), f"Docker on {name}")


def one_machine(bench: Bench, image: str) -> dict[str, float]:
    """From nothing to Docker; then a reboot."""
    found: dict[str, float] = {}
    began = time.perf_counter()
    bench.insert("one", image)
    found["insert to DONE, s"] = time.perf_counter() - began
    bench.until(lambda: bench.answers("one"), "sshd on one")
    found["insert to ssh's answer, s"] = time.perf_counter() - began
    bench.until(lambda: bench.ssh("one"), "a login on one")
    found["insert to login, s"] = time.perf_counter() - began
    if image == DEBIAN and not bench.ssh("one", INSTALL):
        raise RuntimeError("apt-get did not install docker.io")
    bench.ready("one")
    found["insert to Docker, s"] = time.perf_counter() - began
    bench.ssh("one", "sudo touch /run/before; sudo systemctl reboot")
    again = time.perf_counter()
    bench.until(lambda: bench.ssh("one", "test ! -e /run/before"), "one is back")
    found["reboot to login, s"] = time.perf_counter() - again
    return found


def make_image(bench: Bench) -> None:
    """A custom image with Docker, made as on Compute Engine: from the disk of a machine that is off."""
    bench.insert("maker")
    bench.until(lambda: bench.ssh("maker"), "a login on maker")
    if not bench.ssh("maker", INSTALL):
        raise RuntimeError("apt-get did not install docker.io")
    bench.api.done("POST", "instances/maker/stop")
    bench.api.done("POST", "global/images", {"name": IMAGE, "sourceDisk": f"{bench.api.zone}/disks/maker"})
    bench.delete("maker")


def many_machines(bench: Bench, image: str) -> dict[str, float]:
    """All at once, until the last one has a login and Docker; the computer's memory that they take."""
    names = [f"m{number}" for number in range(MANY)]
    free = available()

    def make(name: str) -> None:
        bench.insert(name, image, external=False)  # a young project's quota is eight addresses
        bench.until(lambda: bench.ssh(name), f"a login on {name}")
        if image == DEBIAN and not bench.ssh(name, INSTALL):
            raise RuntimeError(f"apt-get did not install docker.io on {name}")
        bench.ready(name)

    with ThreadPoolExecutor(MANY) as pool:
        took = clock(lambda: list(pool.map(make, names)))
        memory = (free - available()) / 1e6
        disk = control.status(NAME).disk / 1e6
        list(pool.map(bench.delete, names))
    return {"all with Docker, s": took, "memory, MB": memory, "disk of the lab, MB": disk}


def available() -> int:
    """Bytes that programs could still take, by the kernel's estimate."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))


def cold() -> dict[str, float]:
    """The trees from nothing, in a cache that goes away again. Packages come from where the computer gets them."""
    kept = os.environ.get("XDG_CACHE_HOME")
    with tempfile.TemporaryDirectory(dir=cache_directory().parent) as home:
        os.environ["XDG_CACHE_HOME"] = home
        try:
            return {
                "trees built, s": clock(lambda: trees.prepare(say)),
                "trees, MB": trees.cache_size() / 1e6,
            }
        finally:
            os.environ.pop("XDG_CACHE_HOME")
            if kept is not None:
                os.environ["XDG_CACHE_HOME"] = kept


def measure(rounds: int, with_cold: bool) -> dict[str, float]:
    os.environ["PYTHONPATH"] = str(REPOSITORY / "src")
    found: dict[str, float] = cold() if with_cold else {}
    trees.prepare(say)
    found.setdefault("trees, MB", trees.cache_size() / 1e6)
    ups, downs = [], []
    for _ in range(rounds):
        ups.append(clock(lambda: control.up(NAME)))
        downs.append(clock(lambda: control.down(NAME)))
    found |= {"lab up, s": statistics.median(ups), "lab down, empty, s": statistics.median(downs)}
    info = control.up(NAME)
    try:
        with tempfile.TemporaryDirectory() as directory:
            lab = Lab(NAME, info, {**os.environ, **control.environment(NAME)}, Places.of(NAME))
            found |= machines(Bench(lab, Path(directory)), rounds)
    finally:
        found["lab down, s"] = clock(lambda: control.down(NAME))
    return found


def machines(bench: Bench, rounds: int) -> dict[str, float]:
    make_image(bench)
    ours = f"{bench.api.project}/global/images/{IMAGE}"
    found: dict[str, float] = {}
    for title, image in (("Debian 12", DEBIAN), ("image with Docker", ours)):
        taken: list[dict[str, float]] = []
        for number in range(rounds):
            say(f"{title}: machine {number + 1} of {rounds}")
            taken.append(one_machine(bench, image))
            bench.delete("one")
        found |= {f"{title}: {key}": statistics.median(one[key] for one in taken) for key in taken[0]}
    for title, image in (("Debian 12", DEBIAN), ("image with Docker", ours)):
        say(f"{MANY} at once: {title}")
        found |= {
            f"{MANY} at once, {title}: {key}": value for key, value in many_machines(bench, image).items()
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.add_argument("--rounds", type=int, default=5, help="of what is done one at a time")
    parser.add_argument("--cold", action="store_true", help="build the trees from nothing, too")
    options = parser.parse_args()
    found = measure(options.rounds, options.cold)
    if options.json:
        print(json.dumps({key: round(value, 3) for key, value in found.items()}, indent=2))
    else:
        for key, value in found.items():
            print(f"{key:<52} {value:9.2f}")


if __name__ == "__main__":
    main()
