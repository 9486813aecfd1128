"""Killing one part of a release at one of its steps, and what became of it.

A step of a few milliseconds is met exactly: programs that the release's units call stand behind a small script on the
machine, which holds the chosen call until the test lets go. What is called is the real program.
"""

from __future__ import annotations

import asyncio
import json
import random
import shlex
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import httpx

from load import asked_all_the_time
from rehost.cloud.client import Client
from rehost.cloud.credentials import Credentials, find
from rehost.lab import control
from suite import Lab, Laptop, until
from tiny import body, set_code, set_env

APP: Final = "tiny"
HOME: Final = f"/var/lib/rehost/{APP}"
HOLD: Final = "/run/rehost-hold"
DEADLINE: Final = 90  # seconds until a step must have come, or an app must be back
BLOB: Final = 20_000_000  # bytes that make sending take a moment

# Before the real program in every unit's search path. The files of HOLD: which unit, what its log must have, which
# command line, and how many of those pass before one is held.
HELD: Final = ("curl", "docker", "mv", "rm", "ln", "sync", "chmod", "cp", "ss", "systemd-run", "cat")
WRAPPER: Final = f"""#!/bin/sh
if [ -e {HOLD}/unit ] && read -r unit <{HOLD}/unit && /usr/bin/grep -q "/$unit" /proc/self/cgroup; then
  read -r log <{HOLD}/log
  read -r word <{HOLD}/word
  read -r call <{HOLD}/call
  read -r left <{HOLD}/left
  line="${{0##*/}} $*"
  if {{ [ -z "$word" ] || /usr/bin/grep -qe "$word" "$log"; }} && echo "$line" | /usr/bin/grep -qEe "$call"; then
    if [ "$left" -gt 0 ]; then
      echo $((left - 1)) >{HOLD}/left
    else
      : >{HOLD}/reached
      while [ -e {HOLD}/unit ]; do /usr/bin/sleep 0.05; done
    fi
  fi
fi
exec "/usr/bin/${{0##*/}}" "$@"
"""


class Step(NamedTuple):
    """unit: which one does it, "" for none. word: what its log has from then on. call: which command lines are of it.

    most: so many of those calls come at least. seen: a condition on the machine, where no call has to be held.
    keys: lines of [run] that make the step come.
    """

    unit: str = ""
    word: str = ""
    call: str = "."
    most: int = 1
    seen: str = f"[ -e {HOLD}/reached ]"
    build: bool = False
    keys: str = ""


STEPS: Final = {
    "ship": Step(seen=f"ls {HOME}/context/tree/blob-NUMBER >/dev/null 2>&1", build=True),
    "build": Step(
        "build",
        seen=f"systemctl is-active -q rehost-{APP}-build && grep -q 'sleep 3' {HOME}/build/log",
        build=True,
    ),
    "gate": Step("release", "waiting for http", most=1),
    "switch": Step("release", "switching the traffic", most=6),
    "watch": Step("release", "watching release", most=4, keys='watch_for = "3s"\n'),
    "drain": Step("drain", most=4),
    "prune": Step("drain", call=r"^docker rm|^rm .*/releases/", most=2, build=True),
}
VICTIMS: Final = ("client", "connection", "unit", "Docker", "machine")

_SESSIONS: Final = (
    'for one in $(pgrep -x sshd); do [ "$one" = "$(cat /run/sshd.pid)" ] || kill -9 "$one"; done'
)


def cells() -> list[tuple[str, str]]:
    """Every step with every victim. Sending is done by no unit."""
    return [(step, victim) for step in STEPS for victim in VICTIMS if (step, victim) != ("ship", "unit")]


class Outcome(NamedTuple):
    """served: "old" or "new", before anything was mended. client: how the deploy ended. up: what the next run did."""

    served: str
    client: str
    up: str
    wrong: tuple[str, ...]

    def __str__(self) -> str:
        return "; ".join([f"{self.served} served, deploy {self.client}, up {self.up}", *self.wrong])


class Ground:
    """A laptop and a lab in which releases are cut off. Leaves the machine as it was, but for the app's value."""

    def __init__(self, laptop: Laptop, lab: Lab, seed: int) -> None:
        self.laptop, self.lab = laptop, lab
        self._number = seed * 1000
        self._random = random.Random(seed)  # noqa: S311
        status = laptop.run("status", "--json").result
        self._address = str(status["address"])
        self._serving = httpx.get(f"http://{self._address}/", trust_env=False).content
        self._config = (laptop.directory / "rehost.toml").read_text()
        self._code = json.loads(self._serving)["code"]

    def crash(self, name: str, victim: str) -> Outcome:
        """Deploys something new, kills the victim at that step, looks who serves, and runs `up`."""
        step, old = STEPS[name], self._serving
        self._change(step)
        new = self._wanted
        slow = threading.Thread(target=self._slowly)
        if name == "drain":
            slow.start()
        watcher = self._watch(step, victim)
        client = subprocess.Popen(
            self.laptop.line("deploy"), cwd=self.laptop.directory, env=dict(self.laptop.environ),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        with asked_all_the_time(self._address, old, new) as wrong:
            try:
                said, _ = watcher.communicate(timeout=2 * DEADLINE)
                assert "reached" in said, (
                    f"{name} never came: {said}\n{client.communicate(timeout=DEADLINE)[0]}"
                )
                left = client.poll() is not None
                if victim == "client":
                    client.kill()
                elif victim == "machine":
                    control.order_fault(self.lab.name, machine=APP, fault="power-cut")
                    self._start_machine()
                if victim != "machine":
                    self._let_go()
                output, _ = client.communicate(timeout=2 * DEADLINE)
            finally:
                client.kill()
                client.wait()
            served = self._who_serves(old, new)
        if slow.ident is not None:
            slow.join()
        faults = [] if victim == "machine" else list(dict.fromkeys(wrong))
        if "Traceback" in output or "fault in rehost" in output:
            faults.append(f"the deploy said: {output[-800:]}")
        ended = "had left" if left and client.returncode == 0 else f"{client.returncode}"
        did, *more = self._mend(new, faults)
        if did == "released it" and served == "new":
            did = "tidied up"
        return Outcome(served, ended, did or "had nothing to do", tuple(more))

    def _change(self, step: Step) -> None:
        """New code where the step needs a build, a new value in any case."""
        self._number += 1
        value = f"crash {self._number}"
        if step.build:
            self._code = f"code {self._number}"
            set_code(self.laptop.directory, self._code)
            for blob in self.laptop.directory.glob("blob-*"):
                blob.unlink()
            (self.laptop.directory / f"blob-{self._number}").write_bytes(self._random.randbytes(BLOB))
        config = self.laptop.directory / "rehost.toml"
        config.write_text(self._config.replace("[run]\n", f"[run]\n{step.keys}"))
        set_env(self.laptop.directory, VALUE=value)
        self._wanted = body(value, code=self._code)

    def _watch(self, step: Step, victim: str) -> subprocess.Popen[str]:
        """Waits on the machine for the step and, where the victim is there, kills it in that instant."""
        kill = {
            "connection": f"sleep 0.1; {_SESSIONS}",
            "unit": f"systemctl kill -s KILL rehost-{APP}-{step.unit}.service",
            "Docker": "systemctl kill -s KILL docker.service",
        }
        hold = ""
        if step.unit and "reached" in step.seen:
            log = f"{HOME}/release/" + ("after.log" if step.unit == "drain" else "log")
            files = {
                "log": log, "word": step.word, "call": step.call, "left": str(self._random.randrange(step.most)),
                "unit": f"rehost-{APP}-{step.unit}",
            }  # fmt: skip
            hold = "; ".join(
                f"printf '%s\\n' {shlex.quote(text)} >{HOLD}/{name}" for name, text in files.items()
            )
            # What an earlier release left to do must not be taken for this one's.
            hold = f"rm -rf {HOLD}; mkdir {HOLD}; {hold}"
        self.laptop.inside(
            f"while systemctl is-active -q rehost-{APP}-drain; do sleep 0.1; done; {hold or ':'}"
        )
        seen = step.seen.replace("NUMBER", str(self._number))
        script = (
            f"tries=0; until {seen}; do tries=$((tries + 1)); [ $tries -lt {DEADLINE * 50} ] || exit 1; "
            f"sleep 0.02; done; echo reached; {kill.get(victim, ':')}"
        )
        return subprocess.Popen(
            self.laptop.line("ssh", "--", "sudo", "sh", "-c", script), cwd=self.laptop.directory,
            env=dict(self.laptop.environ), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def _slowly(self) -> None:
        """A request that is in flight when the traffic moves. When the machine goes, it goes, too."""
        try:
            httpx.get(f"http://{self._address}/slow/4", timeout=30, trust_env=False)
        except httpx.HTTPError:
            return

    def _let_go(self) -> None:
        until(
            lambda: self.laptop.run("ssh", "--", "sudo", "rm", "-rf", HOLD, code=None).code == 0,
            "ssh",
            DEADLINE,
        )

    def _start_machine(self) -> None:
        async def call() -> None:
            found = Credentials(find(self.lab.environ))
            async with Client(self.lab.info.project, found, environ=self.lab.environ) as client:
                path = client.path("zones", "us-west1-a", "instances", APP)
                while (await client.get(path))["status"] != "TERMINATED":  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
                await client.change(
                    "POST", client.path("zones", "us-west1-a", "instances", APP, "start"), None
                )

        asyncio.run(asyncio.wait_for(call(), DEADLINE))

    def _who_serves(self, old: bytes, new: bytes) -> str:
        """Which release answers; after a power cut Docker takes its time. Else it fails."""
        answers: list[bytes] = []

        def answered() -> bool:
            try:
                got = httpx.get(f"http://{self._address}/", timeout=5, trust_env=False)
            except httpx.HTTPError:
                return False
            answers.append(got.content)
            return got.status_code == 200

        until(answered, "an answer", DEADLINE)
        return {old: "old", new: "new"}.get(answers[-1], repr(answers[-1]))

    def _mend(self, new: bytes, faults: list[str]) -> list[str]:
        """The next `up`, and that nothing is left to do after it: what it did ("" for nothing), then what is wrong."""
        again = self.laptop.run("up", "--yes", "--json", code=None)
        if again.code:
            return [f"ended with {again.code}", *faults, again.said[-1500:]]
        self._serving = new
        served = httpx.get(f"http://{self._address}/", trust_env=False)
        if served.content != new:
            faults.append(f"after `up` it serves {served.status_code} {served.text}")
        changed = bool(again.result["changed"])
        last = self.laptop.run("up", "--json", code=None)
        if last.code or last.result["changed"]:
            faults.append(
                f"the second `up` ended with {last.code} and had something to do: {last.said[-800:]}"
            )
        # The old one may still be finishing what it has.
        self.laptop.inside(f"while systemctl is-active -q rehost-{APP}-drain; do sleep 0.1; done")
        runs = self.laptop.inside("docker ps --format '{{.Names}}'").split()
        if len(runs) != 1:
            faults.append(f"these run afterwards: {runs}")
        return ["released it" if changed else "", *faults]


@contextmanager
def ground(laptop: Laptop, lab: Lab, seed: int) -> Iterator[Ground]:
    """Installs what holds the units' calls, and a build that takes a moment."""
    config, docker = laptop.directory / "rehost.toml", laptop.directory / "Dockerfile"
    files = {path: path.read_text() for path in (config, docker, laptop.directory / "app.py")}
    files[laptop.directory / ".env.prod"] = (laptop.directory / ".env.prod").read_text()
    config.write_text(files[config].replace("[run]\n", "[run]\nkeep = 2\n"))
    docker.write_text(files[docker].replace("COPY . .\n", "COPY . .\nRUN sleep 3\n"))
    laptop.run("deploy")
    names = " ".join(HELD)
    laptop.inside(
        f"cat >/usr/local/bin/.held <<'END'\n{WRAPPER}END\nchmod 755 /usr/local/bin/.held; "
        f"for name in {names}; do ln -f /usr/local/bin/.held /usr/local/bin/$name; done"
    )
    try:
        yield Ground(laptop, lab, seed)
    finally:
        laptop.inside(f"cd /usr/local/bin && rm -f .held {names}; rm -rf {HOLD}")
        for path, text in files.items():
            path.write_text(text)
        for blob in laptop.directory.glob("blob-*"):
            blob.unlink()
        laptop.run("deploy")


def table(found: dict[tuple[str, str], Any]) -> str:
    """Rows: steps; columns: victims."""
    width = 32
    lines = ["".join(f"{word:<{width}}" for word in ("", *VICTIMS))]
    for step in STEPS:
        row = [f"{step:<{width}}"]
        for victim in VICTIMS:
            one = found.get((step, victim))
            row.append(f"{(f'{one.served}; {one.client}; {one.up}' if one else '-'):<{width}}")
        lines.append("".join(row).rstrip())
    return "\n".join(lines)
