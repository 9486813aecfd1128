"""The journal: what a run did, one event a line, written as it happens and readable after a kill -9.

It lies in `.rehost/journal/` of the project, one file a run, named by UTC time and command. The machine is the
truth, the journal is its story: deleting it loses nothing that a run needs.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, cast

from rehost.run.errors import UsageError
from rehost.run.events import Event, Json, Kind

KEEP = 50  # runs
CUT_OFF = "cut off"  # the process died before it could say how the run ended
RUNNING = "running"


class Run(NamedTuple):
    """One run as read back. `start` is Unix time; `seconds` reach to the last thing that was written.

    result: "done", "failed", "usage", "refused", "interrupted", or "cut off", or "running" for one that still is.
    """

    command: str
    start: float
    seconds: float
    result: str
    events: tuple[Event, ...]
    path: Path | None = None


class Journal:
    """A sink that appends every event to this run's file. `path` is the file.

    A line is one write(2): when the process is killed, what was emitted is in the file, and at most the last
    line is torn. The file stays locked while the run lives, so that a reader can tell "running" from "cut off".
    """

    def __init__(self, project: Path, command: str, *, now: float | None = None, keep: int = KEEP) -> None:
        """Creates the file, 0600, and removes all but the last `keep` runs.

        Raises UsageError if the project's directory cannot be written.
        """
        self.broken = ""  # why nothing more could be written, e.g. the disk is full
        self._changed = False
        try:
            folder = directory(project)
            self.path, self._file = _create(folder, command, time.time() if now is None else now)
            fcntl.flock(self._file, fcntl.LOCK_EX)
            _prune(folder, keep)
        except OSError as error:
            raise UsageError(
                f"the journal cannot be written: {error.strerror}",
                where=str(error.filename or project),
                cure="Make the project's directory writable, or work in a copy that is.",
            ) from error

    def __call__(self, event: Event) -> None:
        if event.kind == "start":
            self._changed = True
        if self.broken:
            return
        line = json.dumps(event.as_json(), ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
        rest = memoryview(line + b"\n")
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError as error:
            # A full disk must not stop a release half-way; the session tells the person at the end.
            self.broken = f"{self.path}: {error.strerror}"

    def close(self, *, keep: bool = True) -> None:
        """Ends the file. With keep=False a run in which no action began leaves none behind."""
        if not keep and not self._changed:
            self.path.unlink(missing_ok=True)
        os.close(self._file)


def directory(project: Path) -> Path:
    """The project's journal directory, made if it is missing, and kept out of Git. Raises OSError."""
    top = project / ".rehost"
    folder = top / "journal"
    folder.mkdir(parents=True, exist_ok=True)
    keep_out_of_git(top)
    return folder


def keep_out_of_git(top: Path) -> None:
    """Writes `.rehost/.gitignore`: nothing of it is for git but the hooks, which are the project's. Raises OSError."""
    ignore = top / ".gitignore"
    # As rehost wrote it before there were hooks.
    if not ignore.exists() or ignore.read_text() == "*\n":
        ignore.write_text("*\n!/hooks/\n!/hooks/**\n")


def runs(project: Path) -> list[Run]:
    """All runs of a project, the oldest first. Raises UsageError for a file that is damaged before its end."""
    return [load(path) for path in sorted((project / ".rehost" / "journal").glob("*.jsonl"))]


def load(path: Path) -> Run:
    """One run. A torn last line is left out; damage before it raises UsageError with file and line."""
    lines = path.read_bytes().split(b"\n")
    events: list[Event] = []
    # What stands after the last newline is nothing, or a line that the writer could not finish.
    for number, line in enumerate(lines[:-1], start=1):
        try:
            events.append(_event(json.loads(line)))
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(
                "this line of the journal is not an event",
                where=f"{path}:{number}",
                cure="Delete the file; only the story of that run is lost.",
            ) from error
    return _run(path, events)


def _run(path: Path, events: Sequence[Event]) -> Run:
    first = events[0] if events else None
    last = events[-1] if events else None
    command = first.data.get("command") if first else None
    if last is not None and last.kind == "run-end":
        result = str(last.data.get("result", "done"))
    else:
        result = RUNNING if _locked(path) else CUT_OFF
    return Run(
        command=str(command) if command else path.stem.partition("-")[2],
        start=first.time if first else path.stat().st_mtime,
        seconds=round(last.time - first.time, 3) if first and last else 0.0,
        result=result,
        events=tuple(events),
        path=path,
    )


def _event(line: dict[str, Json]) -> Event:
    data = line.get("data", {})
    if not isinstance(data, dict):
        raise TypeError("data is a table")
    return Event(
        kind=cast("Kind", line["kind"]),
        text=str(line.get("text", "")),
        action=str(line.get("action", "")),
        data=data,
        time=float(cast("float", line["time"])),
    )


def _locked(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def stem(command: str, now: float) -> str:
    """The beginning of a run's file name: UTC time to the millisecond, so that names sort by time; the command."""
    whole, milliseconds = divmod(round(now * 1000), 1000)
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(whole))
    return f"{stamp}.{milliseconds:03}Z-{command.replace(' ', '-')}"


def _create(folder: Path, command: str, now: float) -> tuple[Path, int]:
    while True:
        path = folder / f"{stem(command, now)}.jsonl"
        try:
            return path, os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            now += 0.001  # another run began within the same millisecond


def _prune(folder: Path, keep: int) -> None:
    for pattern in ("*.jsonl", "*.fault.txt"):
        for old in sorted(folder.glob(pattern))[:-keep]:
            old.unlink(missing_ok=True)
