"""When the databases are tried from the machine: before a release whose variables name them anew, and in `check`."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from rehost.cli.making import Wanted, state_of
from rehost.cli.site import Site
from rehost.machine import bootstrap
from rehost.machine.probe import MachineState
from rehost.project.config import Project
from rehost.release import decide
from rehost.release.container import fingerprints
from rehost.run.engine import Doing
from rehost.run.errors import Refused
from rehost.run.findings import Finding
from rehost.run.plan import Action
from rehost.run.secret import Secret
from rehost.source.reach_url import Database, databases

if TYPE_CHECKING:
    from rehost.machine.ssh import Machine
    from rehost.source import reach

PROVE: Final = "env/reach"


def due(wanted: Wanted, state: MachineState | None) -> tuple[Database, ...]:
    """The databases whose variables the serving release does not have so; all before the first release."""
    found = tried(wanted.project, wanted.values)
    now = decide.current(state) if state is not None else None
    if now is None:
        return found
    new = fingerprints(wanted.values, str(now.record.get("salt", "")))
    old = now.record.get("env", {})
    return tuple(each for each in found if old.get(each.variable) != new[each.variable])


def tried(project: Project, values: Mapping[str, Secret]) -> tuple[Database, ...]:
    """The databases that the variables name, but for those that rehost.toml excepts and those only containers know."""
    return tuple(
        each for each in databases(values) if each.variable not in project.env.unproved and not each.inside
    )


def before(actions: Sequence[Action], wanted: Wanted, state: MachineState | None) -> list[Action]:
    """The same actions; a release with new databases needs them proved first."""
    if not any(action.id == decide.RELEASE for action in actions):
        return list(actions)
    new = due(wanted, state)
    if not new:
        return list(actions)
    names = ", ".join(each.variable for each in new)
    # After the bootstrap: the machine's address must be its last one, and its sshd at rest.
    prove = Action(PROVE, "run", f"log in from the machine to what {names} names", needs=(bootstrap.ACTION,))
    return [
        prove,
        *(
            action._replace(needs=(*action.needs, PROVE))
            if action.id in (decide.RELEASE, decide.BUILD)
            else action
            for action in actions
        ),
    ]


async def findings(here: Site, found: Sequence[Database], files: Mapping[str, Secret]) -> list[Finding]:
    """One for each database, tried over the open connection. Raises RehostError when that breaks."""
    from rehost.source import reach  # protocols and TLS: only where a database is tried

    return await reach.prove_all(door(here, await here.connect(), files), found)


def door(here: Site, machine: Machine, files: Mapping[str, Secret]) -> reach.Door:
    """How databases are reached from the machine. files: the secret files, one of which may be an authority."""
    from rehost.source import reach

    made = reach.of_machine(machine, here.address)
    made.authorities = _texts(files)
    return made


def _texts(files: Mapping[str, Secret]) -> dict[str, str]:
    found = {}
    for name, content in files.items():
        with contextlib.suppress(UnicodeDecodeError):
            found[name] = base64.b64decode(content.reveal()).decode()
    return found


async def prove(here: Site, wanted: Wanted, doing: Doing) -> None:
    """Raises Refused for a database that does not let the machine in: the app would start without it."""
    new = due(wanted, state_of(here))
    doing.progress(f"logging in to {len(new)} from the machine")
    found = await findings(here, new, wanted.files)
    for finding in found:
        if finding.severity == "warning":
            doing.warning(f"{finding.what} {finding.cure}".strip())
        elif finding.severity == "ok":
            doing.note(finding.what)
    wrong = [finding for finding in found if finding.severity == "error"]
    if wrong:
        first, *others = wrong
        name = first.what.partition(":")[0]
        raise Refused(
            first.what,
            where=here.label,
            serving=here.serving,
            cure=f"{first.cure} A release that can do without it: write {name} into `unproved` under [env].",
            detail="\n".join(f"{each.what} {each.cure}" for each in others),
        )
