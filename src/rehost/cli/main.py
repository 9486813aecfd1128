"""The root of the command line. Knows every command's name and one line about it, and imports one only to run it."""

from __future__ import annotations

import gc
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import NamedTuple

import click

from rehost import __version__


class Entry(NamedTuple):
    """A command: where it is, "module:attribute", and the line that `rehost --help` shows for it."""

    target: str
    line: str


# The sections and the order of `rehost --help`.
SECTIONS: Mapping[str, Mapping[str, Entry]] = {
    "Move": {
        "init": Entry("rehost.cli.init:command", "Write rehost.toml from what the platform knows."),
        "check": Entry("rehost.cli.check:command", "Is everything in place? Every finding with its cure."),
        "plan": Entry("rehost.cli.plan:command", "Show what would change."),
        "up": Entry("rehost.cli.up:command", "Make it so: machine, build, release."),
        "move": Entry("rehost.cli.move:command", "Bring the content of disks and databases over."),
        "atlas": Entry("rehost.cli.atlas:command", "Let the machine in at MongoDB Atlas."),
        "record": Entry("rehost.cli.record:command", "Write the record of the move."),
    },
    "Run": {
        "deploy": Entry("rehost.cli.deploy:command", "Release anew on a machine that stands."),
        "status": Entry("rehost.cli.status:command", "Show what runs, since when and how well."),
        "health": Entry("rehost.cli.health:command", "Ask the app's health check, from the machine."),
        "logs": Entry("rehost.cli.logs:command", "Show the app's log."),
        "exec": Entry("rehost.cli.exec:command", "Run a command in the app's container."),
        "jobs": Entry("rehost.cli.jobs:command", "List the scheduled jobs, and run one now."),
        "ssh": Entry("rehost.cli.ssh:command", "Open a shell on the machine."),
        "history": Entry("rehost.cli.history:command", "List the releases."),
        "rollback": Entry("rehost.cli.rollback:command", "Return to an earlier release."),
        "env": Entry("rehost.cli.env:command", "List, set, unset and compare the app's variables."),
        "down": Entry("rehost.cli.down:command", "Remove the app and what was created for it."),
    },
    "Rehearse": {
        "lab": Entry("rehost.cli.lab:command", "A cloud the size of this computer."),
        "rehearse": Entry("rehost.cli.rehearse:command", "Do the whole move in the lab."),
    },
    "More": {
        "completion": Entry(
            "rehost.cli.main:completion", "Print the line that completes commands in your shell."
        ),
    },
}


class Root(click.Group):
    """A group that finds its commands in SECTIONS."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return [name for section in SECTIONS.values() for name in section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        for section in SECTIONS.values():
            if cmd_name in section:
                module, _, attribute = section[cmd_name].target.partition(":")
                command = getattr(import_module(module), attribute)
                if not isinstance(command, click.Command):
                    raise TypeError(f"{section[cmd_name].target} is no click command")
                return command
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if not args[0].startswith("-") and args[0] not in self.list_commands(ctx):
            ctx.fail(f"There is no command {args[0]!r}.{nearest(args[0], self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        for title, section in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(f"{name:<10}", entry.line) for name, entry in section.items()])


def nearest(name: str, known: list[str]) -> str:
    """A sentence that names the nearest of what is known, with a space before it; empty if nothing is near."""
    from difflib import get_close_matches

    near = get_close_matches(name, known, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


@click.group(
    cls=Root,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: rehost plan, then rehost up. `rehost COMMAND --help` tells more about each.",
    subcommand_metavar="COMMAND ...",
)
@click.version_option(__version__, prog_name="rehost", message="%(prog)s %(version)s")
def root() -> None:
    """Move a containerised backend onto a machine you own, and keep it running there."""


@click.command(epilog='Example: eval "$(rehost completion bash)" in ~/.bashrc.')
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the line that completes rehost's commands and options with the Tab key."""
    source = f"_REHOST_COMPLETE={shell}_source rehost"
    click.echo(f"{source} | source" if shell == "fish" else f'eval "$({source})"')


def main() -> None:
    """The entry point `rehost`. Ends the process with the exit code."""
    # A command is short: looking for cycles while modules load took a tenth of a nothing-changed run.
    gc.set_threshold(100_000)
    for stream in (sys.stdout, sys.stderr):
        # A name in a script that the terminal's encoding lacks must not stop a release.
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        code = root.main(prog_name="rehost", standalone_mode=False)
    except click.ClickException as error:
        code = wrong_usage(error)
    except click.Abort:
        code = 130
    except BrokenPipeError:  # `rehost --help | head -1`
        sys.stderr.close()
        code = 0
    # Otherwise Python looks for cycles among all that was loaded before it ends: 60 ms.
    gc.freeze()
    sys.exit(code if isinstance(code, int) else 0)


def wrong_usage(error: click.ClickException) -> int:
    """Shows what click found wrong with what was typed, as JSON if that was asked for. Returns exit code 2."""
    if "--json" in sys.argv:
        import json

        what = error.format_message()
        click.echo(json.dumps({"result": "usage", "exit": 2, "error": {"what": what}}, ensure_ascii=False))
    else:
        error.show()
    return 2
