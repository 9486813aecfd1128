"""`rehost rollback`: return to an earlier release."""

from __future__ import annotations

import click

from rehost.cli.session import Session, common


@click.command(epilog="Example: rehost rollback 3")
@click.argument("release", type=int, required=False)
@common(journal=True)
async def command(session: Session, release: int | None) -> int:
    """Return to RELEASE, or to the last good one before the one that serves: image, environment and settings.

    It passes the same health gate as a new release; until it has, the present one serves.
    """
    from rehost.cli import doing, making
    from rehost.cli.site import site
    from rehost.project import config
    from rehost.release import decide, switch
    from rehost.run.engine import Doing
    from rehost.run.plan import Action, Plan

    project = config.load(session.directory)
    making.learn_secrets(session, project)
    async with site(project) as here:
        session.progress("reading the machine")
        await here.reach_only()
        await making.settle(session, here)
        state = making.state_of(here)
        target = decide.return_to(state, release, where=here.label)
        now = decide.current(state)
        changes = tuple(decide.between(now.record, target.record)) if now else ()
        what = f"the release of {project.app} that serves: back from {state.current} to {target.number}"
        plan = Plan.of([Action(decide.RELEASE, "update", what, changes)])
        session.show_plan(plan)

        async def back(step: Doing) -> None:
            machine = await here.connect(step.progress)
            order = switch.order_back(project.app, state, target.record, here.hosts)
            seen = await switch.switch(machine, order, serving=here.serving, say=step.progress, log=step.log)
            here.released = seen.live
            step.note(f"release {seen.live} serves; {order.settings.health} answers {seen.answer}")

        await session.apply(plan, {decide.RELEASE: back})
        return await doing.tell(session, here)
