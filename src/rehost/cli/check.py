"""`rehost check`: is everything in place?"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click

from rehost.cli import show
from rehost.cli.session import Session, common


@click.command(epilog="Example: rehost check --callers ../frontend")
@click.option(
    "--callers",
    "elsewhere",
    metavar="DIR",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Look for the app's old address in this checkout too: a frontend, a mobile app. May be repeated.",
)
@common()
async def command(session: Session, elsewhere: tuple[Path, ...]) -> int:
    """Look at all that `rehost up` and the app will need, before they need it. Each finding comes with its cure.

    Reads what the code demands of its environment and what it relied on where it runs today, and lists who calls
    it by its old name. Ends with 2 when `rehost up`, or the app that it starts, would fail; nothing is changed.
    """
    from rehost.cli import checking
    from rehost.cli.site import cloud_desired, site
    from rehost.cloud import check as cloud_check
    from rehost.cloud.client import Client
    from rehost.cloud.credentials import Credentials, find
    from rehost.project import config
    from rehost.run.errors import Exit, RehostError
    from rehost.run.findings import Finding

    project = config.load(session.directory)
    session.progress("looking at the project and the cloud")

    async def cloud() -> list[Finding]:
        try:
            wanted = cloud_desired(project)
            if wanted is None:
                return await _machine()
            async with Client(wanted.project, Credentials(find())) as client:
                found = await cloud_check.check(client, wanted)
            return [*found, *await _databases()]
        except RehostError as error:
            return [cloud_check.from_error(error)]

    async def _machine() -> list[Finding]:
        async with site(project) as here:
            await here.connect()
            state = await here.probe()
            lets_in = Finding("ok", f"the machine {here.address} lets us in and runs {state.os_name}")
            return [lets_in, *await checking.reached(session, here)]

    async def _databases() -> list[Finding]:
        if not checking.databases(project):
            return []
        async with site(project) as here:
            await here.look()
            return await checking.reached(session, here)

    local, remote = await asyncio.gather(asyncio.to_thread(checking.findings, project, elsewhere), cloud())
    found = [*local, *remote]
    for finding in sorted(found, key=lambda each: ("error", "warning", "ok").index(each.severity)):
        sign = (
            click.style(_SIGNS[finding.severity][0], fg=_SIGNS[finding.severity][1])
            if show.colours(sys.stdout)
            else _SIGNS[finding.severity][0]
        )
        where = f"{finding.where}: " if finding.where and finding.severity != "ok" else ""
        session.out(f"{sign}  {where}{finding.what}")
        if finding.cure:
            session.out(f"         {finding.cure}")
    errors = sum(finding.severity == "error" for finding in found)
    warnings = sum(finding.severity == "warning" for finding in found)
    session.out(
        f"{errors} to mend, {warnings} to think about. "
        + ("Then `rehost plan`." if errors else "Next: `rehost plan`.")
    )
    session.result(findings=[finding.as_json() for finding in found])
    return Exit.USAGE if errors else Exit.DONE


_SIGNS = {"error": ("error  ", "red"), "warning": ("warning", "yellow"), "ok": ("ok     ", "green")}
