"""What the lab suite works with: the command line as a person types it, and the app that it moves."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

import discovery
from rehost.lab import control
from rehost.lab.places import Places

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLE = REPOSITORY / "examples" / "content-api"


def until(true: Callable[[], object], what: str, deadline: float = 60) -> None:
    """Polls until it is true; fails with what was awaited."""
    end = time.monotonic() + deadline
    while not true():
        assert time.monotonic() < end, f"not within {deadline} s: {what}"
        time.sleep(0.05)


@dataclass
class Ran:
    """One command's end. result: the last object of --json."""

    code: int
    out: str
    err: str

    @property
    def result(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out.splitlines()[-1])
        return found

    @property
    def said(self) -> str:
        return self.out + self.err


@dataclass
class Laptop:
    """A directory with an app, and `rehost` in it. `transcript` holds everything that any command printed."""

    directory: Path
    environ: Mapping[str, str]
    transcript: list[str] = field(default_factory=list)

    def line(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "rehost", *words]

    def run(self, *words: str, code: int | None = 0, given: str = "", **extra: str) -> Ran:
        done = subprocess.run(
            self.line(*words), cwd=self.directory, env={**self.environ, **extra}, capture_output=True, text=True,
            input=given, check=False, timeout=600,
        )  # fmt: skip
        ran = Ran(done.returncode, done.stdout, done.stderr)
        if words[0] != "exec":  # what a person's own command prints is theirs
            self.transcript.append(f"$ rehost {' '.join(words)}\n{ran.said}")
        if code is not None:
            assert ran.code == code, f"rehost {' '.join(words)} ended with {ran.code}\n{ran.said}"
        return ran

    def killed(self, *words: str, after: float) -> None:
        """Starts a command and kills it so many seconds later, as a power cut would."""
        with (self.directory / ".killed.log").open("ab") as log:
            process = subprocess.Popen(
                self.line(*words), cwd=self.directory, env=dict(self.environ), stdin=subprocess.DEVNULL,
                stdout=log, stderr=log,
            )  # fmt: skip
            try:
                process.wait(after)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()

    def inside(self, command: str) -> str:
        """A shell command on the machine, as root."""
        return self.run("ssh", "--", "sudo", "sh", "-c", command).out


@dataclass
class Lab:
    """The suite's lab."""

    name: str
    info: control.LabInfo
    environ: Mapping[str, str]
    places: Places

    def get(self, url: str, host: str = "") -> httpx.Response:
        return httpx.get(url, headers={"Host": host} if host else {}, timeout=10, trust_env=False)


def write(directory: Path, files: Mapping[str, str | bytes]) -> None:
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        if name.startswith(".env"):
            path.chmod(0o600)


def clear(directory: Path) -> None:
    """Removes all but what rehost itself keeps there."""
    kept = {".rehost", ".rehost/journal", ".rehost/cache"}
    for path in [*directory.iterdir(), *directory.glob(".rehost/*")]:
        if str(path.relative_to(directory)) not in kept:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def copy_example(directory: Path) -> None:
    """The reference backend as it stands in the checkout, without what tests and earlier moves left in it."""
    left = shutil.ignore_patterns(
        ".env.prod", ".rehost", "rehost.toml", "__pycache__", ".*_cache", ".hypothesis"
    )
    shutil.copytree(EXAMPLE, directory, ignore=left, dirs_exist_ok=True)


# -- Google's schema ---------------------------------------------------------------------------------------

SUMMARY: list[str] = []  # lines that the test run ends with


def held_to_schema(record: Path) -> tuple[int, list[str]]:
    """How many exchanges with the Compute API were recorded, and what of them does not fit Google's document."""
    if not record.exists():
        return 0, []
    with record.open() as lines:
        exchanges = [json.loads(line) for line in lines]
    return len(exchanges), [line for one in exchanges for line in discovery.exchange_faults(one)]
