"""The engine: applies a plan, running at the same time what does not depend on each other.

It decides three things and no more: what may start now, whether an error is tried again, and what is left
undone after a failure. What an action does is its doer's business; how it is shown is the sinks' business.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from rehost.run.errors import RehostError
from rehost.run.events import Bus, Json
from rehost.run.plan import Action, Plan

FIRST_PAUSE = 1.0  # seconds before the first retry; doubles each time
LONGEST_PAUSE = 30.0  # seconds


class Doing:
    """One action while it is being done. Handed to its doer, which tells through it what happens."""

    def __init__(self, action: Action, bus: Bus) -> None:
        self.action = action
        self.result: Literal["done", "unchanged"] = "done"
        self._bus = bus

    def progress(self, text: str) -> None:
        """What the action waits for or has reached; replaces the text before it."""
        self._bus.emit("progress", text, action=self.action.id)

    def log(self, line: str) -> None:
        """One line that a program wrote, without its end of line."""
        self._bus.emit("log", line, action=self.action.id)

    def note(self, text: str, *, open_point: bool = False, listed: bool = False) -> None:
        """Something the person should know; `open_point`: left for them to do, and the record says so.

        listed: the command shows it itself, in a list at its end.
        """
        tell(self._bus, "note", text, self.action.id, open_point=open_point, listed=listed)

    def warning(self, text: str, *, open_point: bool = False) -> None:
        """Something that went wrong or is about to, though the action goes on."""
        tell(self._bus, "warning", text, self.action.id, open_point=open_point)

    def retrying(self, text: str, attempt: int) -> None:
        """Told by the engine before it tries the action again, for the `attempt`th time."""
        self._bus.emit("warning", text, action=self.action.id, retry=attempt)

    def unchanged(self) -> None:
        """Found already as planned: the action ends as "unchanged" instead of "done"."""
        self.result = "unchanged"


def tell(
    bus: Bus,
    kind: Literal["note", "warning"],
    text: str,
    action: str = "",
    *,
    open_point: bool,
    listed: bool = False,
) -> None:
    """Emits a note or a warning; an open point carries open=True, which the record looks for."""
    marks = {name: True for name, holds in (("open", open_point), ("listed", listed)) if holds}
    bus.emit(kind, text, action=action, **marks)


Doer: TypeAlias = Callable[[Doing], Awaitable[None]]
Sleep: TypeAlias = Callable[[float], Awaitable[None]]


class Failure(NamedTuple):
    """An action that failed, and its error as it was raised."""

    action: Action
    error: Exception


@dataclass(slots=True)
class Outcome:
    """What became of each action of a plan: each is in exactly one list, in the order in which it ended."""

    done: list[Action] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)
    skipped: list[Action] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.failed and not self.skipped

    @property
    def first_error(self) -> Exception | None:
        return self.failed[0].error if self.failed else None


async def apply(
    plan: Plan,
    doers: Mapping[str, Doer],
    bus: Bus,
    *,
    concurrency: int = 8,
    sleep: Sleep = asyncio.sleep,
) -> Outcome:
    """Does the plan's actions, each as soon as those that it needs are done, at most `concurrency` at a time.

    A failing action is returned in the outcome, never raised. After it nothing new starts; what runs already
    is let finish. Cancelling this call cancels the running doers, waits for their clean-up (they see
    CancelledError) and then raises CancelledError; the command line makes an Interrupted of it.

    Raises LookupError, before anything starts, if an action has no doer: that is our own mistake.
    """
    missing = [action.id for action in plan.actions if action.id not in doers]
    if missing:
        raise LookupError(f"no doer for {', '.join(missing)}")
    outcome = Outcome()
    waiting = list(plan.actions)
    unfinished = {action.id for action in plan.actions}
    running: dict[asyncio.Task[None], Action] = {}
    try:
        while True:
            if not outcome.failed:
                ready = [action for action in waiting if unfinished.isdisjoint(action.needs)]
                for action in ready[: concurrency - len(running)]:
                    waiting.remove(action)
                    task = asyncio.create_task(_do(action, doers[action.id], bus, sleep), name=action.id)
                    running[task] = action
            if not running:
                break
            await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            # Not the set that wait() returns: a set has no order, and the outcome's lists should have one.
            for task in [task for task in running if task.done()]:
                action = running.pop(task)
                error = _error_of(task)
                if error is None:
                    unfinished.discard(action.id)
                    outcome.done.append(action)
                else:
                    outcome.failed.append(Failure(action, error))
    except asyncio.CancelledError:
        await _cancelled(running)
        raise
    outcome.skipped.extend(waiting)
    return outcome


async def _do(action: Action, doer: Doer, bus: Bus, sleep: Sleep) -> None:
    """One action from its start event to its end event. Raises what its last try raised."""
    doing = Doing(action, bus)
    began = time.monotonic()

    def ended(result: str, text: str = "", **data: Json) -> None:
        seconds = round(time.monotonic() - began, 3)
        bus.emit("end", text, action=action.id, result=result, seconds=seconds, **data)

    def failed(error: Exception) -> None:
        told = error_as_json(error)
        ended("failed", str(told["what"]), error=told)

    bus.emit("start", action.what, action=action.id, verb=action.verb)
    try:
        await _try(doing, doer, sleep)
    except asyncio.CancelledError as cancelled:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            ended("stopped")
            raise
        # Nobody asked for it: something inside the doer cancelled itself, and it must not count as done.
        fault = RuntimeError(f"{action.id} was cancelled from within")
        failed(fault)
        raise fault from cancelled
    except Exception as error:
        failed(error)
        raise
    ended(doing.result)


async def _try(doing: Doing, doer: Doer, sleep: Sleep) -> None:
    retries = doing.action.retries
    for attempt in range(retries + 1):
        try:
            await doer(doing)
        except RehostError as error:
            if not error.retryable or attempt == retries:
                raise
            pause = min(FIRST_PAUSE * 2**attempt, LONGEST_PAUSE)
            again = f"Trying again in {pause:g} s ({attempt + 1} of {retries})."
            doing.retrying(f"{_sentence(error.what)} {again}", attempt + 1)
            await sleep(pause)
        else:
            return


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _error_of(task: asyncio.Task[None]) -> Exception | None:
    error = task.exception()
    if error is None or isinstance(error, Exception):
        return error
    raise error


async def _cancelled(running: Mapping[asyncio.Task[None], Action]) -> None:
    """Cancels what runs and waits until the last has cleaned up, also if cancelled again meanwhile."""
    for task in running:
        task.cancel()
    while pending := [task for task in running if not task.done()]:
        try:
            await asyncio.wait(pending)
        except asyncio.CancelledError:
            continue
    for task in running:
        if not task.cancelled():
            task.exception()  # seen: its end event has told it already


def error_as_json(error: Exception) -> dict[str, Json]:
    """An error's parts for events and --json; those that are empty are left out."""
    if not isinstance(error, RehostError):
        name = type(error).__name__
        return {"what": f"{name}: {error}" if str(error) else name, "fault": name}
    parts: dict[str, Json] = {
        "what": error.what,
        "where": error.where,
        "serving": error.serving,
        "cure": error.cure,
        "detail": error.detail,
    }
    return {name: part for name, part in parts.items() if part}
