"""`rehost logs`: what the app wrote."""

from __future__ import annotations

import re

import click

from rehost.cli.session import Session, common


@click.command(epilog="Example: rehost logs -f --since 10m --grep ERROR")
@click.option("--follow", "-f", is_flag=True, help="Go on showing lines as they are written; Ctrl-C ends it.")
@click.option("--since", metavar="WHEN", help='Only lines since then: "10m", "2h", or "2026-11-22T10:00:00".')
@click.option("--grep", "pattern", metavar="REGEX", help="Only lines that match.")
@click.option(
    "--lines", "-n", default=200, show_default=True, help="How many of the last lines to begin with."
)
@click.option("--release", "number", type=int, help="Of this release. [default: the one that serves]")
@click.option("--process", default="", metavar="NAME", help="Of this process. [default: the web process]")
@click.option("--service", default="", metavar="NAME", help="Of this service instead.")
@common()
async def command(
    session: Session,
    follow: bool,
    since: str | None,
    pattern: str | None,
    lines: int,
    number: int | None,
    process: str,
    service: str,
) -> None:
    """Show the app's log. Values of secrets are masked."""
    from rehost.cli import visit
    from rehost.run.errors import UsageError

    try:
        wanted = re.compile(pattern) if pattern else None
    except re.error as wrong:
        raise UsageError(
            f"--grep {pattern!r} is not a regular expression: {wrong}",
            cure="Put a backslash before characters with a meaning of their own, such as ( [ and *.",
        ) from None
    arriving = await visit.start(session.directory, look=False)
    from rehost.cli import making
    from rehost.cli.site import site
    from rehost.project import config
    from rehost.release import logs

    project = config.load(session.directory)
    order = logs.Order(
        project.app,
        follow=follow,
        since=since or "",
        lines=lines,
        number=number,
        process=process,
        service=service,
    )
    making.learn_secrets(session, project)
    async with site(project, arriving) as here:
        machine = await here.connect(session.progress)

        def line(text: str) -> None:
            if wanted is None or wanted.search(text):
                session.out(text)

        await logs.show(machine, order, line)
