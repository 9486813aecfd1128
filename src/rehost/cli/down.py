"""`rehost down`: take away what `rehost up` made."""

from __future__ import annotations

import click

from rehost.cli.session import Session, common


@click.command(epilog="Example: rehost down --keep-address")
@click.option("--yes", is_flag=True, help="Don't ask.")
@click.option("--keep-address", is_flag=True, help="Keep the reserved address: allow-lists and DNS know it.")
@common(journal=True)
async def command(session: Session, yes: bool, keep_address: bool) -> int:
    """Delete the machine, its disk, its firewall rules and its address; only what carries this app's label.

    On a machine that stands (provider "host") it removes the app's containers, images, releases and routes.
    """
    from rehost.cli.site import cloud_desired, site
    from rehost.cloud import doers as cloud_doers
    from rehost.cloud import plan as cloud_plan
    from rehost.cloud.observe import observe
    from rehost.edge import caddy
    from rehost.project import config
    from rehost.release import mend
    from rehost.run.engine import Doer, Doing
    from rehost.run.plan import Action, Plan

    project = config.load(session.directory)
    wanted = cloud_desired(project)
    async with site(project) as here:
        if here.client is None or wanted is None:
            session.progress("reading the machine")
            await here.reach_only()
            state = here.state
            app = project.app

            async def remove(doing: Doing) -> None:
                machine = await here.connect(doing.progress)
                running, read = None, ""
                if state is not None and state.caddy:
                    running, read = caddy.without(state.caddy, app), state.caddy_text
                await mend.remove_app(machine, app, running, read)

            here_is = state is not None and (state.releases or any(c.app == app for c in state.containers))
            plan = Plan.of([Action("app/remove", "delete", f"{app} on {here.label}")] if here_is else [])
            doers: dict[str, Doer] = {"app/remove": remove}
        else:
            session.progress("reading the cloud")
            observed = await observe(here.client, wanted)
            plan = Plan.of(cloud_plan.destroy_plan(wanted, observed, keep_address=keep_address))
            doers = cloud_doers.destroy_doers(here.client, wanted, observed)
        if not plan:
            session.out(f"Nothing of {project.app} is there.")
            return 0
        session.show_plan(plan)
        session.confirm(plan, yes)
        await session.apply(plan, doers)
    session.out(f"{project.app} is gone. rehost.toml, the env files and the journal stay here.")
    return 0
