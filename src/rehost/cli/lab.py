"""`rehost lab`: the rehearsal ground."""

from __future__ import annotations

import shlex

import click

from rehost.cli.process import plain_interrupts
from rehost.cli.session import Session, common

name_option = click.option(
    "--name", default="default", help="Which lab; several stand side by side.", show_default=True
)


@click.group(epilog='Example: rehost lab up && eval "$(rehost lab env)"')
def command() -> None:
    """A cloud the size of this computer: machines, metadata server, Compute API, image mirror, database.

    With the variables that `rehost lab env` prints, every command of rehost (and Google's own tools) meets the
    lab instead of Google.
    """


@command.command(epilog="Example: rehost lab up --name mine")
@name_option
@common()
async def up(session: Session, name: str) -> None:
    """Bring the lab up. The first time its trees are built, which takes a minute."""
    from rehost.lab import control

    with plain_interrupts():  # it waits without an event loop, and cleans up what it began
        info = control.up(name, session.progress)
    session.out(f"The lab {name} is up{'' if info.fresh else ' already'}.")
    session.out(f"  Compute API  {info.api} (project {info.project})")
    session.out(f"  database     {info.database} (nx-27017: it speaks MongoDB's protocol and is not MongoDB)")
    session.out(f"  base images  {info.image}")
    session.out(f'  use it       eval "$(rehost lab env --name {name})"')
    session.out(f"  tear down    rehost lab down --name {name}")
    session.result(name=name, api=info.api, project=info.project, database=info.database, fresh=info.fresh)


@command.command(epilog="Example: rehost lab down")
@name_option
@common()
async def down(session: Session, name: str) -> None:
    """Take the lab down, with every machine in it. Nothing is left behind but the cached trees."""
    from rehost.lab import control

    with plain_interrupts():
        gone = control.down(name, session.progress)
    session.out(f"The lab {name} is down." if gone else f"There is no lab {name}.")
    session.result(name=name, removed=gone)


@command.command(epilog="Example: rehost lab status --json")
@name_option
@common()
async def status(session: Session, name: str) -> int:
    """Show what runs in the lab."""
    from rehost.lab import control

    found = control.status(name)
    info = found.info
    if info is None:
        session.out(f"The lab {name} is not up.")
        for thing in found.leftovers:
            session.out(f"  left behind: {thing}")
        session.result(up=False, leftovers=list(found.leftovers))
        return 1
    session.out(f"The lab {name} is up: {info.api} (project {info.project}), database {info.database}")
    for one in found.instances:
        session.out("  " + "  ".join(f"{value}" for value in one.values()))
    for one in found.faults:
        session.out("  fault: " + ", ".join(f"{key} {value}" for key, value in one.items()))
    session.result(
        up=True,
        api=info.api,
        instances=[dict(i) for i in found.instances],
        faults=[dict(f) for f in found.faults],
    )
    return 0


@command.command(epilog="Example: rehost lab fault instances.insert stockout --times 2")
@name_option
@click.argument("method", required=False)
@click.argument("kind", required=False)
@click.option("--times", default=1, show_default=True, help="For how many calls.")
@click.option("--clear", is_flag=True, help="Take back all orders.")
@common()
async def fault(
    session: Session, name: str, method: str | None, kind: str | None, times: int, clear: bool
) -> None:
    """Order a fault: the next calls of METHOD answer KIND (503, quota, stockout, hang, reset, ...)."""
    from rehost.lab import control
    from rehost.run.errors import UsageError

    if clear:
        control.clear_faults(name)
        session.out("No fault is ordered any more.")
        return
    if method is None or kind is None:
        raise UsageError(
            "a METHOD and a KIND are needed, or --clear.",
            cure="For example `rehost lab fault instances.insert 503`.",
        )
    orders = control.fault(name, method, kind, times)
    for one in orders:
        session.out(", ".join(f"{key} {value}" for key, value in one.items()))
    session.result(faults=[dict(one) for one in orders])


@command.command(epilog='Example: eval "$(rehost lab env)"')
@name_option
@common()
async def env(session: Session, name: str) -> None:
    """Print the variables under which everything meets the lab instead of Google."""
    from rehost.lab import control

    values = control.environment(name)
    for key, value in values.items():
        session.out(f"export {key}={shlex.quote(value)}")
    session.result(environment=dict(values))
