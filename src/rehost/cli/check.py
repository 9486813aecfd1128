"""`rehost check`: is everything in place?"""

from __future__ import annotations

import asyncio
import sys

import click

from rehost.cli import show
from rehost.cli.session import Session, common


@click.command(epilog="Example: rehost check --json")
@common()
async def command(session: Session) -> int:
    """Look at all that `rehost up` will need, before it needs it. Each finding comes with its cure.

    Ends with 2 when something would stop `rehost up`; nothing is changed.
    """
    from rehost.cli.site import cloud_desired
    from rehost.cloud import check as cloud_check
    from rehost.cloud.client import Client
    from rehost.cloud.credentials import Credentials, find
    from rehost.project import config
    from rehost.release import check as release_check
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
                return await cloud_check.check(client, wanted)
        except RehostError as error:
            return [cloud_check.from_error(error)]

    async def _machine() -> list[Finding]:
        from rehost.cli.site import site

        async with site(project) as here:
            await here.connect()
            state = await here.probe()
        return [Finding("ok", f"the machine {here.address} lets us in and runs {state.os_name}")]

    local, remote = await asyncio.gather(asyncio.to_thread(release_check.findings, project), cloud())
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
