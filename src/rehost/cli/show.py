"""How a run is shown: plain lines, JSON lines, and plans, questions and errors as text.

Events and errors go to stderr, what a command was asked for goes to stdout, so that `rehost logs | grep`
and `rehost env list > file` get that and nothing else. With --json all goes to stdout, a line an object.
The display for terminals, with rich, is in `terminal.py` and loaded only when one is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Mapping
from typing import Protocol, TextIO

import click

from rehost.run.errors import Interrupted, Refused, RehostError
from rehost.run.events import Event, Json
from rehost.run.plan import Action, Plan
from rehost.run.record import duration, title

QUIET_GAP = 5.0  # seconds between two progress lines of one action, in plain output that is not verbose

# CSI and OSC sequences, and the other two-byte escapes (ECMA-48).
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])")
_SYMBOLS = {"create": "+", "update": "~", "replace": "-/+", "delete": "-", "run": ">"}
_COLOURS = {"create": "green", "update": "yellow", "replace": "red", "delete": "red", "run": "cyan"}


class ReaderGoneError(Exception):
    """Whoever read our output closed it, as `| head` does. No fault, and no BrokenPipeError of a connection."""


class Display(Protocol):
    """A sink that shows events, and the way to the screen for everything else."""

    def __call__(self, event: Event) -> None: ...
    def out(self, text: str) -> None:
        """A command's own output, as it stands, with a line end."""

    def error(self, error: RehostError) -> None: ...
    def end(self, result: Mapping[str, Json]) -> None:
        """The last thing shown: the result object."""

    def pause(self) -> None:
        """Leaves the screen to somebody else, a question or a program, until the next event."""


def clean(text: str) -> str:
    """A line that a program wrote, without what would move the cursor or colour the screen.

    Of a line that was overwritten by carriage returns the last state remains, as on a terminal.
    """
    text = _ESCAPES.sub("", text).rstrip("\r\n")
    text = text.rpartition("\r")[2]
    return "".join(c if c.isprintable() else "    " if c == "\t" else "" for c in text)


class Plain:
    """One line per event: minutes and seconds of the run, one word, and what it is about.

    Of progress a line every few seconds. What came too soon for a line gets one when nothing has followed it.
    """

    def __init__(self, *, quiet: bool = False, verbose: bool = False) -> None:
        self._quiet = quiet
        self._verbose = verbose
        self._began: float | None = None
        self._titles: dict[str, str] = {}
        self._said: dict[str, float] = {}
        self._held: dict[str, Event] = {}

    def __call__(self, event: Event) -> None:
        if event.kind in ("start", "plan", "run-end"):
            self._held.pop("", None)  # what was awaited outside of any action is over
        if self._began is None:
            self._began = event.time
        if event.kind == "start":
            self._titles[event.action] = title(str(event.data.get("verb", "")), event.text)
        word, text = self._line(event)
        if self._quiet and word not in ("failed", "warning"):
            return
        if word:
            self._show(event, word, text, event.time - self._began)
        elif event.kind == "progress":
            self._hold(event)

    def _hold(self, event: Event) -> None:
        """Shows it later, unless something else of the same action comes before."""
        with contextlib.suppress(RuntimeError):  # without a loop nothing goes on for long
            loop = asyncio.get_running_loop()
            self._held[event.action] = event
            loop.call_later(self._said[event.action] + QUIET_GAP - event.time, self._catch_up, event)

    def _catch_up(self, event: Event) -> None:
        if self._held.get(event.action) is event and self._began is not None:
            with contextlib.suppress(ReaderGoneError):  # the next event tells
                self._show(event, "...", event.text, time.time() - self._began)

    def _show(self, event: Event, word: str, text: str, after: float) -> None:
        self._held.pop(event.action, None)
        about = self._titles.get(event.action, event.action)
        took_only = text.startswith("(") and event.kind == "end"
        line = (" " if took_only else ": ").join(part for part in (clean(about), clean(text)) if part)
        minutes, seconds = divmod(int(after), 60)
        write(sys.stderr, f"{minutes:02}:{seconds:02}  {word:<11}  {line}")
        self._said[event.action] = event.time

    def _line(self, event: Event) -> tuple[str, str]:
        """The word and the text of an event; an empty word for one that is not shown."""
        word, text = "", event.text
        match event.kind:
            case "start":
                word, text = "start", ""
            case "progress":
                said = self._said.get(event.action)
                word = "..." if self._verbose or said is None or event.time - said >= QUIET_GAP else ""
            case "log":
                word = "|" if self._verbose or event.data.get("shown") else ""
            case "note" | "warning":
                word = "" if event.data.get("listed") else event.kind
            case "end":
                word, text = str(event.data.get("result", "done")), ended(event)
            case "run-end":
                # A command that only looks has said what it had to say.
                word, text = str(event.data.get("result", "done")) if self._titles else "", ended(event)
        return word, text

    def out(self, text: str) -> None:
        write(sys.stdout, text)

    def error(self, error: RehostError) -> None:
        write(sys.stderr, error_text(error))

    def end(self, result: Mapping[str, Json]) -> None:
        """People have read it all above."""

    def pause(self) -> None:
        """Lines don't move: there is nothing to leave."""


class JsonLines:
    """Every event as a line of JSON on stdout, and last an object with `result` and `exit`."""

    def __call__(self, event: Event) -> None:
        self._line(event.as_json())

    def out(self, text: str) -> None:
        """Text is for people; what programs need is in the result object."""

    def error(self, error: RehostError) -> None:
        """Errors are in the result object."""

    def end(self, result: Mapping[str, Json]) -> None:
        self._line(dict(result))

    def pause(self) -> None:
        """Nothing to leave."""

    def _line(self, value: dict[str, Json]) -> None:
        write(sys.stdout, json.dumps(value, ensure_ascii=False))


def write(stream: TextIO, line: str) -> None:
    """One line, at once. Raises ReaderGoneError."""
    try:
        stream.write(line + "\n")
        stream.flush()
    except BrokenPipeError as error:
        raise ReaderGoneError from error


def ended(event: Event) -> str:
    """What is said behind an action's or a run's last word: how long it took, and what went wrong."""
    seconds = event.data.get("seconds")
    took = duration(seconds) if isinstance(seconds, (int, float)) else ""
    error = event.data.get("error")
    what = str(error.get("what", "")) if isinstance(error, dict) else ""
    if event.kind == "run-end":
        return took
    return f"{what} ({took})" if what and took else what or (f"({took})" if took else "")


def colours(stream: TextIO) -> bool:
    """Whether the stream takes colours and a moving cursor: a terminal, and NO_COLOR (no-color.org) is not set."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def plan_text(plan: Plan, *, colour: bool = False) -> str:
    """The plan for people: a line per action, its fields before → after below it, and a summary."""
    lines: list[str] = []
    for action in plan.actions:
        head = f"{_SYMBOLS[action.verb]:>3} {action.verb:<7}  {clean(action.what)}"
        lines.append(click.style(head, fg=_COLOURS[action.verb]) if colour else head)
        lines.extend(_change_lines(action))
    return "\n".join([*lines, "", summary(plan)]) if lines else summary(plan)


def _change_lines(action: Action) -> list[str]:
    names = max((len(change.field) for change in action.changes), default=0)
    befores = max((len(_value(c.before)) for c in action.changes if c.before is not None), default=0)
    lines = []
    for change in action.changes:
        after = _value(change.after) if change.after is not None else "none"
        before = _value(change.before) if change.before is not None else "none"
        if action.verb == "create" and change.before is None:
            text = after
        elif action.verb == "delete" and change.after is None:
            text = before
        else:
            # Aligned arrows are quick to read, unless one long value pushes all the others off the screen.
            text = f"{before:<{min(befores, 40)}} → {after}"
        lines.append(f"               {clean(change.field):<{names}}  {text}")
    return lines


def _value(value: Json) -> str:
    if isinstance(value, str) and value.isprintable():
        return value
    if (
        isinstance(value, list)
        and value
        and all(isinstance(part, str) and part.isprintable() for part in value)
    ):
        return ", ".join(str(part) for part in value)
    return json.dumps(value, ensure_ascii=False)


def summary(plan: Plan) -> str:
    """ "2 to create, 1 to update, nothing to delete"."""
    if not plan.actions:
        return "Nothing to change."
    count = {verb: sum(action.verb == verb for action in plan.actions) for verb in _SYMBOLS}
    parts = [f"{number} to {verb}" for verb, number in count.items() if number]
    if not plan.destructive:
        parts.append("nothing to delete")
    return ", ".join(parts)


def confirm(
    plan: Plan,
    yes: bool,
    *,
    tty: bool | None = None,
    ask: Callable[[str], str] = input,
) -> None:
    """Lets a plan pass that replaces or deletes nothing; others need `yes` or a person's answer at a terminal.

    Raises Refused without either, and if the answer is not yes; Interrupted on Ctrl-C at the question.
    """
    if yes or not plan.destructive:
        return
    things = ", ".join(f"{action.verb} {clean(action.what)}" for action in plan.destructive)
    if not (sys.stdin.isatty() and sys.stderr.isatty() if tty is None else tty):
        raise Refused(
            f"the plan would {things}, and nobody is there to ask",
            cure="Nothing was changed. If this is what you want, add --yes.",
        )
    lost = "" if all(action.kept for action in plan.destructive) else " What is there now is lost."
    # Not input's own prompt: that goes to stdout, where a pipe may be.
    sys.stderr.write(f"This will {things}.{lost}\nGo on? [y/N] ")
    sys.stderr.flush()
    try:
        answer = ask("").strip().lower()
    except EOFError:
        answer = ""
    except KeyboardInterrupt:
        raise Interrupted("at the question; nothing was changed") from None
    if answer not in ("y", "yes"):
        raise Refused("not confirmed; nothing was changed", cure="Answer y, or add --yes.")


def error_text(error: RehostError, *, colour: bool = False, width: int | None = None) -> str:
    """An error as a person should meet it: what happened; where; what still serves; what to do; last lines."""
    word = (
        "Stopped" if isinstance(error, Interrupted) else "Refused" if isinstance(error, Refused) else "Error"
    )
    head = click.style(f"{word}:", fg="red", bold=True) if colour else f"{word}:"
    lines = [f"{head} {error.what}"]
    for label, text in (("where", error.where), ("still serving", error.serving), ("what to do", error.cure)):
        if text:
            shown = click.style(f"{label:<13}", bold=True) if colour else f"{label:<13}"
            lines.append(f"  {shown}  {_wrapped(text, width)}")
    if error.detail.strip():
        lines.append("")
        lines.extend(f"  | {clean(line)}".rstrip() for line in error.detail.strip("\n").splitlines())
    return "\n".join(lines)


def _wrapped(text: str, width: int | None) -> str:
    if width is None:
        return text
    parts = (
        textwrap.wrap(part, max(width - 17, 30), break_long_words=False, break_on_hyphens=False) or [""]
        for part in text.splitlines()
    )
    return ("\n" + " " * 17).join(line for lines in parts for line in lines)


def screen_width() -> int:
    return shutil.get_terminal_size().columns
