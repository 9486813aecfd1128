"""What every command has: the common options, a display, a journal, and exceptions turned into exit codes.

How a command is written (`rehost/cli/restart.py`, and a line in the table of `main.py`):

    @click.command(epilog="Example: rehost restart --yes")
    @click.option("--yes", is_flag=True, help="Don't ask before something is replaced or deleted.")
    @common(journal=True)                      # journal: for commands that change things
    async def command(session: Session, yes: bool) -> None:
        \"\"\"Restarts the app.\"\"\"
        from rehost.project import config      # what is heavy is imported here, not above

        project = config.load(session.directory)      # the directory of rehost.toml
        session.bus.scrubber.add(secrets)             # before any of them can reach an event
        session.progress("Reading the machine")
        plan = Plan.of(...)
        session.show_plan(plan)
        session.confirm(plan, yes)                    # raises Refused
        await session.apply(plan, doers)              # raises the first error, shows the others
        session.out("The app answers at http://...")  # for people; nothing with --json
        session.result(url="http://...")              # for programs: joins the last object of --json

A command may return an int: its exit code. It raises RehostError and its kin for what a person can act on.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeAlias

import click

from rehost import __version__
from rehost.cli import process, show
from rehost.run import engine
from rehost.run.engine import Doer, Outcome
from rehost.run.errors import Interrupted, Refused, RehostError, UsageError
from rehost.run.events import Bus, Event, Json, scrubbed
from rehost.run.journal import Journal
from rehost.run.plan import Plan

P = ParamSpec("P")
CONFIG = "rehost.toml"


class Options(NamedTuple):
    """The common options as they were typed."""

    project: Path | None = None
    json: bool = False
    quiet: bool = False
    verbose: bool = False


class Session:
    """One run of one command."""

    def __init__(self, command: str, options: Options, display: show.Display) -> None:
        self.command = command
        self.options = options
        self.display = display
        self.bus = Bus(self._follow)
        self.journal: Journal | None = None
        self.parts: dict[str, Json] = {}
        self.others: list[Exception] = []
        self._running: set[str] = set()
        self._finished = 0
        self._changing = False
        self._unseen = False

    @property
    def here(self) -> Path:
        """The directory that --project names, or the current one; it need not have a rehost.toml."""
        return (self.options.project or Path.cwd()).resolve()

    @functools.cached_property
    def directory(self) -> Path:
        """The directory of rehost.toml: the one that --project names, or the nearest upwards from here.

        Raises UsageError if there is none.
        """
        if self.options.project is not None:
            if (self.here / CONFIG).is_file():
                return self.here
            raise UsageError(
                f"there is no {CONFIG}",
                where=str(self.here),
                cure="`rehost init` in that directory writes one.",
            )
        for directory in (self.here, *self.here.parents):
            if (directory / CONFIG).is_file():
                return directory
        raise UsageError(
            f"there is no {CONFIG} here, nor in any directory above",
            where=str(self.here),
            cure="`rehost init` writes one; or name the project's directory with --project.",
        )

    def open_journal(self, directory: Path) -> None:
        """Writes down from now on what happens. For commands whose project only shows while they run."""
        self.journal = Journal(directory, self.command)
        self.journal(Event("run-start", data={"command": self.command, "version": __version__}))
        self.bus.add(self.journal)

    def out(self, text: str = "") -> None:
        """A command's own output on stdout, for people. With --json nothing: use `result`."""
        self.display.out(self.bus.scrubber.scrub(text))

    def result(self, **parts: Json) -> None:
        """Parts of the object that --json prints last."""
        self.parts.update({name: scrubbed(part, self.bus.scrubber) for name, part in parts.items()})

    def progress(self, text: str) -> None:
        """What the command is busy with outside of any action; replaces the text before it."""
        self.bus.emit("progress", text)

    def note(self, text: str, *, open_point: bool = False) -> None:
        """Something the person should know; `open_point`: left for them to do, and the record says so."""
        engine.tell(self.bus, "note", text, open_point=open_point)

    def warning(self, text: str, *, open_point: bool = False) -> None:
        engine.tell(self.bus, "warning", text, open_point=open_point)

    def show_plan(self, plan: Plan) -> None:
        """Writes the plan to the journal, and shows it unless --quiet."""
        self.bus.emit("plan", actions=[action.as_json() for action in plan.actions])
        if not self.options.quiet:
            self.out(show.plan_text(plan, colour=show.colours(sys.stdout)))

    def confirm(self, plan: Plan, yes: bool) -> None:
        """Raises Refused if the plan replaces or deletes something and nobody agrees. With --json nobody is asked."""
        self.display.pause()
        with process.plain_interrupts():
            show.confirm(plan, yes, tty=False if self.options.json else None)

    async def apply(self, plan: Plan, doers: Mapping[str, Doer]) -> Outcome:
        """Does the plan. Raises the first error if an action fails; the others are shown before it."""
        outcome = await engine.apply(plan, doers, self.bus)
        if outcome.first_error is not None:
            self.others.extend(failure.error for failure in outcome.failed[1:])
            raise outcome.first_error
        return outcome

    def _follow(self, event: Event) -> None:
        """Shows an event, and counts what an interruption has to tell."""
        if event.kind == "start":
            self._changing = True
            self._running.add(event.action)
        elif event.kind == "end":
            self._running.discard(event.action)
            self._finished += event.data.get("result") in ("done", "unchanged")
        if self._unseen:
            return
        try:
            self.display(event)
        except show.ReaderGoneError:
            if not self._running:
                raise
            # `rehost up | head` must not stop a release half-way: it goes on unseen.
            self._unseen = True

    def interrupted(self, detail: str = "") -> Interrupted:
        """What is said when the person, or the system, stops the run."""
        if not self._changing:
            return Interrupted("nothing was changed", detail=detail)
        steps = "1 step" if self._finished == 1 else f"{self._finished} steps"
        return Interrupted(
            f"{steps} done, and what was done stays done",
            cure=f"Type `rehost {self.command}` again: it carries on from there.",
            detail=detail,
        )

    def scrubbed(self, error: RehostError) -> RehostError:
        """The same error with the values of known secrets masked: its texts may quote programs and files."""
        scrub = self.bus.scrubber.scrub
        kinds = (UsageError, Refused, Interrupted)
        kind = next((kind for kind in kinds if isinstance(error, kind)), RehostError)
        copy = kind(
            scrub(error.what),
            cure=scrub(error.cure),
            where=scrub(error.where),
            serving=scrub(error.serving),
            detail=scrub(error.detail),
        )
        copy.exit = error.exit
        return copy


Body: TypeAlias = Callable[Concatenate[Session, P], Awaitable[int | None]]


def common(*, journal: bool = False) -> Callable[[Body[P]], Callable[P, None]]:
    """Makes an `async def command(session, ...)` a click callback with the common options.

    journal: the command changes something; it is written down in the project's `.rehost/journal/`.
    """

    def wrap(body: Body[P]) -> Callable[P, None]:
        @click.option(
            "--project",
            type=click.Path(path_type=Path, exists=True, file_okay=False),
            metavar="DIR",
            help=f"The directory of {CONFIG}. [default: this one, or the nearest above]",
        )
        @click.option("--json", "json_", is_flag=True, help="Print events and the result as lines of JSON.")
        @click.option("--quiet", "-q", is_flag=True, help="Show only warnings, errors and the result.")
        @click.option("--verbose", "-v", is_flag=True, help="Show all that programs on the machine write.")
        def callback(*args: P.args, **typed: P.kwargs) -> None:
            given: dict[str, Any] = dict(typed)
            options = Options(
                given.pop("project"), given.pop("json_"), given.pop("quiet"), given.pop("verbose")
            )
            if options.quiet and options.verbose:
                raise click.UsageError("--quiet and --verbose exclude each other")
            context = click.get_current_context()
            name = context.command_path.partition(" ")[2] or context.command_path
            session = Session(name, options, display_for(options))
            start = functools.partial(body, session, *args, **given)
            context.exit(process.run(session, start, journal=journal))

        functools.update_wrapper(callback, body)  # its name, its docstring as help, and its own options
        return callback

    return wrap


def display_for(options: Options) -> show.Display:
    """The display that the options and stderr call for."""
    if options.json:
        return show.JsonLines()
    if show.colours(sys.stderr):
        from rehost.cli.terminal import Terminal

        return Terminal(quiet=options.quiet, verbose=options.verbose)
    return show.Plain(quiet=options.quiet, verbose=options.verbose)
