"""`rehost deploy`: a new release on a machine that stands."""

from __future__ import annotations

import click

from rehost.cli.session import Session, common


@click.command(epilog="Example: rehost deploy")
@click.option("--yes", is_flag=True, help="Don't ask before a service is deleted.")
@common(journal=True)
async def command(session: Session, yes: bool) -> int:
    """Release the code and environment of this directory on the machine that `rehost up` made.

    Leaves the cloud and the machine's own state alone: where these are not as they must be, it refuses.
    """
    from rehost.cli import visit

    ahead = visit.Ahead()
    arriving = await visit.start(session.directory, ahead)
    from rehost.cli import making
    from rehost.cli.site import site
    from rehost.machine import bootstrap
    from rehost.project import config
    from rehost.run.errors import Refused
    from rehost.run.plan import Plan

    project = config.load(session.directory)
    wanted = await making.read_wanted(session, project)
    making.expect(ahead, wanted)
    async with site(project, arriving) as here:
        session.progress("reading the machine")
        await here.reach_only()
        await making.settle(session, here)
        state = making.state_of(here)
        if amiss := bootstrap.drift(state):
            raise Refused(
                "the machine is not as it must be: " + ", ".join(change.field for change in amiss),
                where=here.label,
                serving=here.serving,
                cure="`rehost plan` shows it, `rehost up` puts it right and releases as well.",
            )
        wanted = await making.resolved(session, here, wanted)
        plan = Plan.of(making.release_actions(here, wanted))
        if not plan:
            return making.unchanged(session, here)
        from rehost.cli import doing

        session.show_plan(plan)
        session.confirm(plan, yes)
        await session.apply(plan, doing.release_doers(session, here, wanted))
        return await doing.tell(session, here)
