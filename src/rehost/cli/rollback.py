"""`rehost rollback`: return to an earlier release."""

from __future__ import annotations

from dataclasses import replace

import click

from rehost.cli.session import Session, common


@click.command(epilog="Example: rehost rollback 3")
@click.argument("release", type=int, required=False)
@common(journal=True)
async def command(session: Session, release: int | None) -> int:
    """Return to RELEASE, or to the last good one before the one that serves: image, environment and settings.

    It passes the same health gate as a new release; until it has, the present one serves.
    """
    from rehost.cli import visit

    arriving = await visit.start(session.directory, visit.Ahead(1))
    from rehost.cli import doing, hooking, making
    from rehost.cli.site import site
    from rehost.project import config
    from rehost.release import decide, hooks, switch
    from rehost.release.container import Revision, Settings
    from rehost.run.engine import Doing
    from rehost.run.plan import Action, Plan

    project = config.load(session.directory)
    hooks.find(project.directory)  # one that cannot be run is told before anything is touched
    making.learn_secrets(session, project)
    async with site(project, arriving) as here:
        session.progress("reading the machine")
        await here.reach_only()
        await making.settle(session, here)
        state = making.state_of(here)
        target = decide.return_to(state, release, where=here.label)
        now = decide.current(state)
        changes = tuple(decide.between(now.record, target.record)) if now else ()
        what = f"the release of {project.app} that serves: back from {state.current} to {target.number}"
        changes += decide.interruption(Settings.from_json(target.record["settings"]))
        plan = Plan.of([Action(decide.RELEASE, "update", what, changes)])
        session.show_plan(plan)

        async def back(step: Doing) -> None:
            machine = await here.connect(step.progress)
            order = switch.order_back(project.app, state, target.record, here.hosts)
            order = replace(order, by=doing.whoami())
            seen = await switch.switch(
                machine,
                order,
                serving=here.serving,
                say=step.progress,
                log=step.log,
                served=here.ask,
            )
            here.released = seen.live
            switch.tell(seen, order.settings, step)

        data = target.record
        made = Revision(doing.whoami(), data["commit"], data["dirty"])
        doers = hooking.around(session, here, {decide.RELEASE: back}, target.number, lambda: made)
        await session.apply(plan, doers)
        return await doing.tell(session, here)
