"""Hooks: programs of the project in `.rehost/hooks/`, run on the user's computer around a release.

What comes before something can stop it; what comes after can only complain.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from rehost.project.nearest import nearest
from rehost.run.errors import RehostError, UsageError

FOLDER: Final = ".rehost/hooks"
BEFORE_BUILD: Final = "before-build"
BEFORE_RELEASE: Final = "before-release"
AFTER_RELEASE: Final = "after-release"
ON_FAILURE: Final = "on-failure"
NAMES: Final = (BEFORE_BUILD, BEFORE_RELEASE, AFTER_RELEASE, ON_FAILURE)
LAST_LINES: Final = 15
# How long a hook that is told to end may take, and how long what it left behind may still write. Seconds.
GRACE: Final = 5.0
REST: Final = 0.5


def find(project: Path) -> dict[str, Path]:
    """The project's hooks by name. Files of other names are the hooks' own business.

    Raises UsageError for a hook that cannot be run, and for a name that looks like a mistyped hook.
    """
    folder = project / FOLDER
    try:
        names = sorted(path.name for path in folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    for name in names:
        meant = nearest(name, NAMES)
        if name not in NAMES and meant:
            raise UsageError(
                f"there is no such hook; did you mean {meant!r}?",
                where=f"{FOLDER}/{name}",
                cure=f"Hooks are called {', '.join(NAMES)}. Rename the file.",
            )
    found: dict[str, Path] = {name: folder / name for name in NAMES if name in names}
    for name, path in found.items():
        where = f"{FOLDER}/{name}"
        if not path.is_file():
            what = "a directory" if path.is_dir() else "no file"
            raise UsageError(
                f"it is {what}; a hook is a program.", where=where, cure="Put a script in its place."
            )
        if not os.access(path, os.X_OK):
            raise UsageError("the hook is not executable.", where=where, cure=f"Type `chmod +x {where}`.")
    return found


async def run(path: Path, project: Path, facts: Mapping[str, str], on_line: Callable[[str], None]) -> int:
    """Runs a hook in the project's directory to its end; returns its exit status, negative for a signal.

    It has no input, so it cannot wait for an answer. Cancelled, it ends the hook with all that it started.
    Raises UsageError when the system cannot run it.
    """
    reading, writing = os.pipe()
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, "rb", 0)
    )
    try:
        try:
            process = await asyncio.create_subprocess_exec(
                str(path),
                cwd=project,
                env={**os.environ, **facts},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                start_new_session=True,
            )
        except OSError as failed:
            raise UsageError(
                f"the hook cannot be run: {failed.strerror}.",
                where=f"{FOLDER}/{path.name}",
                cure="A script begins with the line `#!/bin/sh`, or that of another program which is here.",
            ) from None
        finally:
            os.close(writing)
        listening = asyncio.create_task(_lines(reader, on_line))
        try:
            status = await process.wait()
            # A program that it left running may hold the pipe open for ever.
            await asyncio.wait({listening}, timeout=REST)
        finally:
            if process.returncode is None:
                await _end(process)
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
    finally:
        transport.close()
    return status


async def _lines(reader: asyncio.StreamReader, on_line: Callable[[str], None]) -> None:
    rest = b""
    while chunk := await reader.read(65536):
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            on_line(line.decode(errors="replace"))
    if rest:
        on_line(rest.decode(errors="replace"))


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), GRACE)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # what of it did not listen
    await process.wait()


def ending(status: int) -> str:
    """How a hook ended, in words."""
    return f"ended with status {status}" if status >= 0 else f"was ended by signal {-status}"


def failed(name: str, status: int, lines: list[str], serving: str) -> RehostError:
    """The error of a hook that stops what it comes before."""
    return RehostError(
        f"the hook {name} {ending(status)}; nothing was released.",
        where=f"{FOLDER}/{name}",
        serving=serving,
        detail="\n".join(lines[-LAST_LINES:]),
        cure="Mend what the hook found (or the hook), then run the same command again.",
    )
