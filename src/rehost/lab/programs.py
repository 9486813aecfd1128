"""System programs, run so that nothing can hang on them: no standard input, output to files.

A pipe that a background machine inherits stays open as long as the machine runs, and hangs whoever reads it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rehost.lab.places import Places
from rehost.run.errors import RehostError

LAST_LINES = 15


def run(*argv: str | Path, given: str = "", check: bool = True, timeout: float = 60) -> str:
    """Runs a program to its end and returns its output. `given` is its standard input.

    Raises RehostError with what the program said when it fails, unless `check` is false.
    """
    words = [str(word) for word in argv]
    with tempfile.TemporaryFile("w+") as source, tempfile.TemporaryFile("w+") as out, _text() as errors:
        source.write(given)
        source.seek(0)
        try:
            done = subprocess.run(
                words,
                stdin=source,
                stdout=out,
                stderr=errors,
                timeout=timeout,
                check=False,
                env=environment(),
            )
        except subprocess.TimeoutExpired:
            raise RehostError(
                f"`{' '.join(words)}` did not end within {timeout:.0f} s",
                cure="Try `rehost lab down`, then again.",
            ) from None
        except FileNotFoundError:
            raise RehostError(
                f"{words[0]} is not installed", cure="`rehost lab up` says which packages the lab needs."
            ) from None
        out.seek(0)
        errors.seek(0)
        if check and done.returncode:
            raise RehostError(
                f"`{' '.join(words)}` failed with status {done.returncode}",
                cure="Its own words stand below; `rehost lab down` cleans up what was begun.",
                detail=last_lines(errors.read() or out.read()),
            )
        return out.read()


def last_lines(text: str, count: int = LAST_LINES) -> str:
    return "\n".join(text.strip().splitlines()[-count:])


def _text() -> tempfile._TemporaryFileWrapper[str]:
    return tempfile.TemporaryFile("w+", errors="replace")  # type: ignore[return-value]


def environment() -> dict[str, str]:
    # Output of programs is parsed, so it must not be translated; /usr/sbin is not on every user's PATH.
    path = os.environ.get("PATH", "")
    return {**os.environ, "LC_ALL": "C.UTF-8", "PATH": f"{path}:/usr/sbin:/sbin:/usr/bin:/bin"}


def found(program: str) -> str | None:
    return shutil.which(program, path=environment()["PATH"])


@dataclass(slots=True)
class Program:
    """A program that runs beside the machines, in a session of its own."""

    name: str
    log: Path
    process: subprocess.Popen[bytes]

    def alive(self) -> bool:
        return self.process.poll() is None

    def stop(self, patience: float = 5) -> None:
        """Asks it to end, insists after `patience` seconds."""
        if self.alive():
            self.process.terminate()
            try:
                self.process.wait(patience)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()

    def failure(self, how: str) -> RehostError:
        """What became of it, with the last lines of its log."""
        return RehostError(
            f"the lab's {self.name} {how}",
            cure=f"Its whole log: {self.log}",
            detail=last_lines(self.log.read_text(errors="replace")),
        )


@dataclass(slots=True)
class Service(Program):
    """A program that answers on a port of the lab's gateway address."""

    address: str
    port: int


def spawn(
    places: Places, name: str, argv: Sequence[str | Path], extra: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Starts a program in the background, its output in the lab's log of that name."""
    log = places.log(name)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            [str(word) for word in argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**environment(), **(extra or {}), **places.environment()},
            start_new_session=True,  # a Ctrl-C at the terminal is for the lab's server, which stops it in order
        )


def start_service(
    places: Places,
    name: str,
    argv: Sequence[str | Path],
    *,
    address: str,
    port: int,
    extra: Mapping[str, str] | None = None,
    deadline: float = 20,
) -> Service:
    """Starts a program in the background and waits until its port answers.

    Raises RehostError with the last lines of its log when it ends or stays silent.
    """
    process = spawn(places, name, argv, extra)
    service = Service(name, places.log(name), process, address, port)
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        if not service.alive():
            raise service.failure(f"ended with status {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection((address, port), 1):
            return service
        time.sleep(0.05)
    service.stop(1)
    raise service.failure(f"did not answer on {address}:{port} within {deadline:.0f} s")


def free_port(address: str, wanted: int) -> int:
    """The wanted port when nobody listens on it, else any free one. Raises RehostError if the address is not ours."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise RehostError(
        f"{address} is not an address of this computer",
        cure="The lab's network is not up: `rehost lab up` makes it.",
    )
