"""`rehost lab`: the rehearsal ground."""

from __future__ import annotations

import shlex

import click

from rehost.cli import lab_fault
from rehost.cli.process import plain_interrupts
from rehost.cli.session import Session, common

name_option = click.option(
    "--name", default="default", help="Which lab; several stand side by side.", show_default=True
)


@click.group(epilog='Example: rehost lab up && eval "$(rehost lab env)"')
def command() -> None:
    """A cloud the size of this computer: machines, metadata server, Compute API, image mirror, database.

    With the variables that `rehost lab env` prints, every command of rehost, gcloud and Google's libraries meet the
    lab instead of Google. It needs root and Debian 12; `rehost lab up` says what is missing. A lab lives until `rehost
    lab down`, the end of its server or a reboot: then all of it is gone.
    """


@command.command(epilog="Example: rehost lab up --name mine")
@name_option
@common()
async def up(session: Session, name: str) -> None:
    """Bring the lab up: a second; the first time its trees are built, which takes a minute or two.

    Where it is up already, nothing is done. What a killed lab of that name left behind is removed first.
    """
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


@command.command(epilog="Example: rehost lab down; rehost lab down --cache")
@name_option
@click.option(
    "--cache", is_flag=True, help="Then drop the cached trees, too; the next `up` builds them anew."
)
@common()
async def down(session: Session, name: str, cache: bool) -> None:
    """Take the lab down, with all machines, disks and snapshots in it. Only the cached trees stay.

    It also removes what a lab left behind whose server was killed, and may be repeated. The trees are for all labs:
    --cache is refused while another lab is up.
    """
    from rehost.lab import control

    with plain_interrupts():
        gone = control.down(name, session.progress)
        session.out(f"The lab {name} is down." if gone else f"There is no lab {name}.")
        freed = control.drop_cache() if cache else 0
    if cache:
        session.out(f"The cached trees are gone: {freed / 1e6:.0f} MB.")
    session.result(name=name, removed=gone, freed=freed)


@command.command(epilog="Example: rehost lab status; rehost lab status --name mine --json")
@click.option("--name", help="Which lab. [default: the only one that is up, or a list of those that are]")
@common()
async def status(session: Session, name: str | None) -> int:
    """Show what is in the lab: machines, addresses, disks, last operations, faults in force, what it takes.

    Ends with 1 when the lab is not up, and says what of it was left behind.
    """
    from rehost.cli import lab_show
    from rehost.lab import control

    if name is None:
        names = control.names_up()
        if len(names) > 1:
            session.out("These labs are up:")
            for one in names:
                session.out(f"  rehost lab status --name {one}")
            session.result(labs=list(names))
            return 0
        name = names[0] if names else "default"
    found = control.status(name)
    if found.info is None:
        for line in lab_show.not_up(name, found.leftovers):
            session.out(line)
        session.result(up=False, name=name, leftovers=list(found.leftovers))
        return 1
    for line in lab_show.lines(found.info, found):
        session.out(line)
    session.result(**lab_show.as_json(found.info, found))
    return 0


@command.command(epilog='Example: eval "$(rehost lab env --name mine)"; rehost lab env --json')
@name_option
@common()
async def env(session: Session, name: str) -> None:
    """Print the variables under which rehost, gcloud and Google's libraries meet the lab instead of Google.

    They hold for the shell that evaluates them, and name a file with a key of the lab; no secret is printed.
    """
    from rehost.lab import control

    values = control.environment(name)
    for key, value in values.items():
        session.out(f"export {key}={shlex.quote(value)}")
    session.result(environment=dict(values))


command.add_command(lab_fault.fault)
command.add_command(lab_fault.storm)
