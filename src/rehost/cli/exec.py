"""`rehost exec`: a command in the app's container."""

from __future__ import annotations

import sys

import click

from rehost.cli.session import Session, common


@click.command(epilog="Example: rehost exec -- python -m app.migrate")
@click.argument("words", nargs=-1, required=True, metavar="[--] COMMAND...")
@common()
async def command(session: Session, words: tuple[str, ...]) -> int:
    """Run a command in the container of the release that serves; with a terminal when there is one here."""
    from rehost.cli.site import hand_over, site
    from rehost.project import config
    from rehost.release import logs

    project = config.load(session.directory)
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    script = (
        logs.CURRENT.format(app=project.app)
        + f'exec docker exec {"-it" if terminal else "-i"} "{project.app}-$n" "$@"'
    )
    root = ["sudo", "-n"] if _needs_sudo(project.machine) else []
    async with site(project) as here:
        code = await hand_over(session, here, [*root, "sh", "-c", script, "sh", *words], terminal=terminal)
    if code == 73:
        session.warning("no release serves yet; `rehost up` makes one")
    return code


def _needs_sudo(machine: object) -> bool:
    return getattr(machine, "user", None) != "root"
