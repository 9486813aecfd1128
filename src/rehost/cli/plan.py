"""`rehost plan`: what would change."""

from __future__ import annotations

import sys

import click

from rehost.cli import show
from rehost.cli.session import Session, common


@click.command(epilog="Example: rehost plan --json")
@common()
async def command(session: Session) -> None:
    """Show what `rehost up` would change, and change nothing."""
    from rehost.cli import visit

    arriving = await visit.start(session.directory)
    from rehost.cli import making
    from rehost.cli.site import site
    from rehost.cloud import check as cloud_check
    from rehost.cloud import plan as cloud_plan
    from rehost.project import config

    project = config.load(session.directory)
    wanted = await making.read_wanted(session, project)
    async with site(project, arriving) as here:
        session.progress(f"reading {here.places}")
        await here.look()
        wanted = await making.resolved(session, here, wanted)
        plan = making.whole_plan(here, wanted)
        # What was asked for is shown with --quiet too.
        session.out(show.plan_text(plan, colour=show.colours(sys.stdout)))
        if here.cloud is not None and here.observed is not None:
            cost = cloud_check.free_tier(here.cloud)
            session.out(f"\nCost: {cost.what} {cost.cure}".rstrip())
            session.result(cost=cost.what)
            for remark in cloud_plan.remarks(here.cloud, here.observed):
                session.warning(f"{remark.what} {remark.cure}".strip())
        session.result(actions=[action.as_json() for action in plan.actions])
