"""`rehost deploy`: a new release on a machine that stands."""

from __future__ import annotations

import click

from rehost.cli.session import Session, common


@click.command(epilog="Example: rehost deploy")
@common(journal=True)
async def command(session: Session) -> int:
    """Release the code and environment of this directory on the machine that `rehost up` made.

    Leaves the cloud and the machine's own state alone: where these are not as they must be, it refuses.
    """
    from rehost.cli import visit

    arriving = await visit.start(session.directory)
    from rehost.cli import making
    from rehost.cli.site import site
    from rehost.machine import bootstrap
    from rehost.project import config
    from rehost.release import decide
    from rehost.run.errors import Refused
    from rehost.run.plan import Plan

    project = config.load(session.directory)
    wanted = await making.read_wanted(session, project)
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
        plan = Plan.of(decide.plan(making.release_desired(wanted, here), state))
        if not plan:
            return making.unchanged(session, here)
        from rehost.cli import doing

        session.show_plan(plan)
        await session.apply(plan, doing.machine_doers(here, wanted))
        return await doing.tell(session, here)
