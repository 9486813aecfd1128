"""`rehost exec`: a command in the app's container."""

from __future__ import annotations

import shlex
import sys

import click

from rehost.cli.session import Session, common

_NOTHING = "no release serves yet; rehost up makes one"


@click.command(epilog="Example: rehost exec -- python -m app.migrate")
@click.argument("words", nargs=-1, required=True, metavar="[--] COMMAND...")
@click.option("--process", default="", metavar="NAME", help="In this process. [default: the web process]")
@common()
async def command(session: Session, words: tuple[str, ...], process: str) -> int:
    """Run a command in the container of the release that serves; with a terminal when there is one here."""
    from rehost.cli.site import hand_over, site
    from rehost.machine.ssh import AS_ROOT
    from rehost.project import config
    from rehost.release import logs

    project = config.load(session.directory)
    container = shlex.quote(f".{process}") if process else ""
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    script = (
        # Said there: the command may end with any status of its own.
        logs.CURRENT.format(app=project.app, otherwise=f'echo "{_NOTHING}" >&2; exit 1')
        + f'exec docker exec {"-it" if terminal else "-i"} "{project.app}-$n"{container} "$@"'
    )
    as_root = AS_ROOT.format(command='sh -c "$@"')
    async with site(project) as here:
        remote = ["sh", "-c", as_root, "sh", script, "sh", *words]
        return await hand_over(session, here, remote, terminal=terminal)
