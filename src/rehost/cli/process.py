"""A command as a process: signals, exit codes, and faults of ours told apart from what a person can act on."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from rehost import __version__
from rehost.cli import show
from rehost.run import journal
from rehost.run.engine import error_as_json
from rehost.run.errors import Exit, RehostError, UsageError
from rehost.run.events import Event, Json

if TYPE_CHECKING:
    from rehost.cli.session import Session

RESULTS: Mapping[int, str] = {
    Exit.DONE: "done",
    Exit.FAILED: "failed",
    Exit.USAGE: "usage",
    Exit.REFUSED: "refused",
    Exit.INTERRUPTED: "interrupted",
}


def run(session: Session, start: Callable[[], Awaitable[int | None]], *, journal: bool = False) -> int:
    """Runs a command to its end and says how it ended. Returns the exit code; raises nothing."""
    began = time.monotonic()
    code, errors = Exit.DONE.value, list[RehostError]()
    try:
        session.bus.emit("run-start", command=session.command, version=__version__)
        if journal:
            session.open_journal(session.directory)
        code = asyncio.run(_interruptible(session, start)) or 0
    except show.ReaderGoneError:
        _leave_stdout()
        if journal:  # of what another command shows, enough was read; this one has not come to its end
            errors = [RehostError("the output was closed before the command had come to its end")]
    except _Stopped as stopped:
        errors = [session.interrupted(str(stopped.__cause__ or ""))]
    except KeyboardInterrupt:
        errors = [session.interrupted()]
    except (Exception, asyncio.CancelledError) as error:
        errors = [_presentable(session, each) for each in (*session.others, *_leaves(error))]
    if errors:
        code = errors[-1].exit.value
    try:
        _finish(session, code, [session.scrubbed(error) for error in errors], time.monotonic() - began)
    except show.ReaderGoneError:
        _leave_stdout()
    return code


def _finish(session: Session, code: int, errors: list[RehostError], seconds: float) -> None:
    """The end of the run for the journal, the person and the program, in this order: the journal must not miss it."""
    result = RESULTS.get(code, "failed")
    ending: dict[str, Json] = {"result": result, "exit": code, "seconds": round(seconds, 3)}
    if errors:
        ending["error"] = error_as_json(errors[-1])
    kept = session.journal
    if kept is not None:
        kept(Event("run-end", data=ending))
        kept.close(keep=code in (Exit.FAILED, Exit.INTERRUPTED))
    if kept is not None and kept.broken:
        session.display(Event("warning", f"the journal of this run is not complete: {kept.broken}"))
    session.display(Event("run-end", data=ending))
    for error in errors:
        session.display.error(error)
    others: list[Json] = [error_as_json(error) for error in errors[:-1]]
    also: dict[str, Json] = {"other_errors": others} if others else {}
    session.display.end({**ending, **also, "command": session.command, **session.parts})


class _Stopped(Exception):
    """A signal ended the command; its cause is what the command still had to say."""


async def _interruptible(session: Session, start: Callable[[], Awaitable[int | None]]) -> int | None:
    """Runs the command so that the first SIGINT or SIGTERM cancels it and a second ends the process at once.

    Raises _Stopped if it was stopped and did not come to its end all the same.
    """
    task = asyncio.ensure_future(start())
    loop = asyncio.get_running_loop()
    stopping = False

    def stop() -> None:
        session.bus.emit("note", "Stopping: what runs is cleaning up. Ctrl-C again leaves at once.")
        task.cancel()

    def on_signal(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - what signal.signal wants
        nonlocal stopping
        if stopping:
            session.display.pause()
            os._exit(Exit.INTERRUPTED)
        stopping = True
        loop.call_soon_threadsafe(stop)

    with _signals(on_signal):
        try:
            return await task
        except asyncio.CancelledError:
            if stopping:
                raise _Stopped from None
            raise
        except Exception as error:
            if stopping:
                raise _Stopped from error
            raise


@contextmanager
def _signals(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> Iterator[None]:
    """Handles SIGINT and SIGTERM meanwhile. Not in other threads: Python allows it in the main thread alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextmanager
def plain_interrupts() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt where the program stands: at a question no event loop would see it."""
    with _signals(signal.default_int_handler):
        yield


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors inside an exception group, or the error itself."""
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from _leaves(part)
    else:
        yield error


def _presentable(session: Session, error: BaseException) -> RehostError:
    """A RehostError as it is; anything else is a fault of ours, whose traceback is kept in a file."""
    if isinstance(error, RehostError):
        return error
    text = "".join(traceback.format_exception(error))
    kept = _keep(session, f"rehost {__version__}, {session.command}\n\n{text}")
    return RehostError(
        f"This is a fault in rehost, not in what you did: {type(error).__name__}: {error}",
        cure=f"Type the command again. If it fails again, report it with the file {kept}; "
        "known secrets are masked in it, but read it before you send it.",
        detail=text if session.options.verbose else "",
    )


def _keep(session: Session, text: str) -> Path:
    """Writes a traceback, 0600, beside the journal; without a project in the system's temporary directory."""
    try:
        folder = journal.directory(session.directory)
        path = folder / f"{journal.stem(session.command, time.time())}.fault.txt"
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    except (OSError, UsageError):
        handle, name = tempfile.mkstemp(prefix="rehost-", suffix=".fault.txt")
        path = Path(name)
    with os.fdopen(handle, "w", encoding="utf-8", errors="replace") as file:
        file.write(session.bus.scrubber.scrub(text))
    return path


def _leave_stdout() -> None:
    """Whoever read our output is gone; nothing is left to be written, nor to be said about it."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
