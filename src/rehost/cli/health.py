"""`rehost health`: does the app answer?"""

from __future__ import annotations

import click

from rehost.cli import show
from rehost.cli.session import Session, common


@click.command(epilog="Example: rehost health && echo fine")
@common()
async def command(session: Session) -> int:
    """Ask the app's health path twice: on the machine through the proxy, and from here as the world does.

    Ends with 0 when both answers are healthy, else with 1.
    """
    from rehost.cli import visit

    arriving = await visit.start(session.directory)
    from rehost.cli.site import site
    from rehost.edge import answer
    from rehost.project import config

    project = config.load(session.directory)
    run = project.run
    async with site(project, arriving) as here:
        session.progress("asking the app")
        await here.reach_only()
        state = here.state
        inside = state.health if state is not None else None
        outside = await answer.ask(here.address, run.health, project.domain.name or "")
    healthy = (
        inside is not None and inside.status in run.health_status and outside.status in run.health_status
    )
    if inside is None:
        session.out("on the machine  no release serves")
    else:
        took = f"{inside.seconds * 1000:.0f} ms"
        session.out(f"on the machine  {inside.status or 'no answer'} in {took}  {show.clean(inside.text)}")
    session.out(
        f"from here       {outside.status or 'no answer'}  {show.clean(outside.text.strip())}  ({outside.url})"
    )
    session.out(
        "healthy" if healthy else f"not healthy: {run.health} must answer {run.health_status} on both"
    )
    session.result(
        healthy=healthy,
        machine={"status": inside.status, "seconds": inside.seconds, "text": inside.text} if inside else None,
        outside={"status": outside.status, "text": outside.text, "url": outside.url},
    )
    return 0 if healthy else 1
