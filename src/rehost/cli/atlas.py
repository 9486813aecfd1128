"""`rehost atlas`: the machine's address on the access list of a MongoDB Atlas project."""

from __future__ import annotations

import os
from functools import partial

import click

from rehost.cli.session import Session, common


@click.command(epilog="Example: rehost atlas --remove 203.0.113.7 --yes")
@click.option(
    "--remove", metavar="ENTRY", multiple=True, help="Take this entry off the list. May be repeated."
)
@click.option("--yes", is_flag=True, help="Don't ask before an entry is removed.")
@common(journal=True)
async def command(session: Session, remove: tuple[str, ...], yes: bool) -> None:
    """Put the machine's address on the access list of a MongoDB Atlas project, and show what else is there.

    Keys come from the environment, as Atlas's own command line takes them: MONGODB_ATLAS_PROJECT_ID with
    MONGODB_ATLAS_CLIENT_ID and _CLIENT_SECRET, or with MONGODB_ATLAS_PUBLIC_API_KEY and _PRIVATE_API_KEY.
    After the move, --remove takes the addresses of the old platform off.
    """
    from rehost.cli.site import site
    from rehost.project import config
    from rehost.run.engine import Doer, Doing
    from rehost.run.errors import Refused, UsageError
    from rehost.run.plan import Action, Plan
    from rehost.source.atlas import Atlas, access

    project = config.load(session.directory)
    given = access(os.environ)
    session.bus.scrubber.add([given.secret])
    async with site(project) as here, Atlas(given) as atlas:
        await here.find_out(session.progress)
        if here.client is None:
            await here.connect(session.progress)  # its name may be one of the ssh configuration alone
        address = here.address
        if not address:
            raise Refused("the machine has no address yet.", cure="`rehost up` makes one.")
        session.progress("asking Atlas")
        there = await atlas.entries()
        known = {entry.value.removesuffix("/32") for entry in there}
        gone = [value for value in remove if value.removesuffix("/32") not in known]
        if gone:
            raise UsageError(f"not on the list: {', '.join(gone)}.", cure="`rehost atlas` shows what is.")
        if address in {value.removesuffix("/32") for value in remove}:
            raise Refused(f"{address} is the machine's own address.", cure="Remove another one.")

        async def add(doing: Doing) -> None:  # noqa: ARG001
            await atlas.add(address, f"rehost: {project.app}")

        async def take_off(value: str, doing: Doing) -> None:  # noqa: ARG001
            await atlas.remove(value)

        plan: list[Action] = []
        doers: dict[str, Doer] = {}
        if address not in known:
            plan.append(Action("atlas/add", "create", f"{address} on the access list at Atlas"))
            doers["atlas/add"] = add
        for value in remove:
            # One after the other, and after the new one: Atlas takes no two changes at once.
            needs = tuple(action.id for action in plan)
            plan.append(
                Action(f"atlas/{value}", "delete", f"{value} on the access list at Atlas", needs=needs)
            )
            doers[f"atlas/{value}"] = partial(take_off, value)
        steps = Plan.of(plan)
        if steps:
            session.show_plan(steps)
            session.confirm(steps, yes)
            await session.apply(steps, doers)
        else:
            session.out(f"Nothing to do: {address} is on the access list.")
        others = [entry for entry in there if entry.value.removesuffix("/32") not in (address, *remove)]
    for entry in others:
        everybody = "(everybody may connect)" if entry.value == "0.0.0.0/0" else ""
        session.out("  " + "  ".join(filter(None, (entry.value, entry.comment, everybody))))
    if others:
        session.out(
            "These are there besides. When the old platform no longer needs them: rehost atlas --remove ENTRY"
        )
    session.result(
        changed=bool(steps),
        address=address,
        others=[{"entry": each.value, "comment": each.comment} for each in others],
    )
