"""`rehost up`: make it so."""

from __future__ import annotations

import click

from rehost.cli.session import Session, common


@click.command(epilog="Example: rehost up --yes")
@click.option("--yes", is_flag=True, help="Don't ask before something is replaced or deleted.")
@common(journal=True)
async def command(session: Session, yes: bool) -> int:
    """Make it so: machine, bootstrap, build, ship, release.

    Shows what would change, does it, and asks the app from outside whether it answers. Doing it again carries on
    where an earlier run was cut off; with nothing to change it says so.
    """
    from rehost.cli import visit

    arriving = await visit.start(session.directory)
    from rehost.cli import making
    from rehost.cli.site import site
    from rehost.project import config

    project = config.load(session.directory)
    wanted = await making.read_wanted(session, project)
    async with site(project, arriving) as here:
        session.progress(f"reading {here.places}")
        await here.look()
        await making.settle(session, here)
        wanted = await making.resolved(session, here, wanted)
        plan = making.whole_plan(here, wanted)
        if not plan:
            await making.wake(session, here)
            return making.unchanged(session, here)
        from rehost.cli import doing

        session.show_plan(plan)
        session.confirm(plan, yes)
        await doing.make(session, here, wanted, plan)
        return await doing.tell(session, here)
