"""`rehost move`: the content of disks and databases, from where it is today into the app's volumes and services."""

from __future__ import annotations

import click

from rehost.cli.session import Session, common


@click.command(epilog="Example: rehost move --rehearse, as often as you like; then rehost move")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--rehearse", is_flag=True, help="Copy and compare, and leave what serves alone.")
@click.option("--yes", is_flag=True, help="Don't ask before what is there is replaced.")
@common(journal=True)
async def command(session: Session, names: tuple[str, ...], rehearse: bool, yes: bool) -> None:
    """Bring the content of what [moves] names, or of each NAME of it, to the machine.

    Everything is copied beside what the app uses, and compared with where it came from. Then the app is stopped, every
    copy is put in place, and the app is started and must get healthy; else all is as before. A second run sends what
    has changed. See docs/moving-data.md.
    """
    import time
    from contextlib import AsyncExitStack
    from functools import partial

    from rehost.cli import making, moving
    from rehost.cli.doing import whoami
    from rehost.cli.site import site
    from rehost.machine.told import Told
    from rehost.project import config
    from rehost.run.engine import Doing
    from rehost.source import move_swap
    from rehost.source.moving import Copied

    project = config.load(session.directory)
    moves = moving.chosen(project, names)
    copied: dict[str, Copied] = {}
    seconds: dict[str, float] = {}
    told: set[str] = set()

    async def copy(each: moving.Move, step: Doing) -> None:
        began = time.monotonic()
        done = await each.mover.copy(step.progress)
        copied[each.name], seconds[each.name] = done, time.monotonic() - began
        step.note(f"{done.counted} compared, {done.sent} sent", listed=True)

    async with site(project) as here, AsyncExitStack() as stack:
        session.progress("reading the machine")
        await here.reach_only()
        await moving.settle_first(session, here)
        machine, state = await here.connect(), making.state_of(here)
        settings = moving.check_there(project, state, moves, here.label)
        await stack.enter_async_context(move_swap.alone(machine, project.app, whoami()))
        opened = await moving.open_moves(session, here, moves, stack, rehearse=rehearse)
        session.progress("looking at both sides of " + ", ".join(moves))
        opened = await moving.look(opened)
        moving.tell_notes(session, opened, told)
        plan = moving.plan_of(opened, project.app, rehearse=rehearse)
        session.show_plan(plan)
        session.confirm(plan, yes)
        swapped = Told()

        async def swap(step: Doing) -> None:
            nonlocal swapped
            moving.tell_notes(session, opened, told)
            copies = [move_swap.Copy(each.mover, str(each.source), *copied[each.name]) for each in opened]
            order = moving.order(here, settings, moving.still(state, moves), whoami())
            swapped = await move_swap.swap(machine, order, copies, step.progress, step.log)

        doers = {f"{moving.COPY}{each.name}": partial(copy, each) for each in opened}
        await session.apply(plan, {**doers, moving.SWAP: swap})
        moving.tell_notes(session, opened, told)
        moving.tell(session, opened, copied, seconds, swapped)
