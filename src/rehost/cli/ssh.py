"""`rehost ssh`: a shell on the machine."""

from __future__ import annotations

import click

from rehost.cli.session import Session, common


@click.command(epilog="Example: rehost ssh -- df -h")
@click.argument("words", nargs=-1, metavar="[-- COMMAND...]")
@common()
async def command(session: Session, words: tuple[str, ...]) -> int:
    """Open a shell on the machine, or run a command there. The host key is the one that the machine published."""
    from rehost.cli.site import hand_over, site
    from rehost.project import config

    async with site(config.load(session.directory)) as here:
        return await hand_over(session, here, words, terminal=not words)
