"""`rehost status`: what runs, since when and how well."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from rehost.cli import show
from rehost.cli.session import Session, common
from rehost.run.events import Json

if TYPE_CHECKING:
    from rehost.machine.probe import MachineState
    from rehost.project.config import Project


@click.command(epilog="Example: rehost status --json")
@common()
async def command(session: Session) -> int:
    """Show the machine, the release that serves and how it answers. Ends with 1 when nothing healthy serves."""
    from rehost.cli import visit

    arriving = await visit.start(session.directory)
    from rehost.cli.site import site
    from rehost.machine import bootstrap
    from rehost.project import config
    from rehost.release import decide

    project = config.load(session.directory)
    async with site(project, arriving) as here:
        session.progress(f"reading {here.places}")
        await here.look()
        state = here.state
        instance = here.observed.instance if here.observed else None
        if state is None:
            said = f"{instance.status}, but it does not answer over ssh yet" if instance else "not there"
            session.out(f"machine   {project.app}: {said}")
            session.out("next      `rehost up` makes it so")
            session.result(machine=instance.status if instance else None, serving=None, healthy=False)
            return 1
        container = state.container(project.app, state.current)
        record = state.release(state.current)
        health = state.health
        healthy = (
            decide.serving(state, project.app)
            and health is not None
            and health.status in project.run.health_status
        )
        drift = bootstrap.drift(state)
        busy = [
            kind
            for kind in ("build", "release")
            if state.unit(f"rehost-{project.app}-{kind}.service").running
        ]
        left = [] if busy else decide.leftovers(state, project.app)
        draining, beside = decide.draining(state, project.app), processes_of(state, project.app)
        services = services_of(state, project.app)
    where, gib = f"{instance.machine_type} in {instance.zone}, " if instance else "", 2**30
    session.out(f"machine   {here.address}: {where}{state.os_name}, up {_span(state.uptime)}")
    session.out(
        f"          memory {state.memory_available / gib:.1f} of {state.memory / gib:.1f} GB available, "
        f"swap {state.swap_free / gib:.1f} of {state.swap / gib:.1f} GB free, "
        f"disk {state.disk_free / gib:.1f} of {state.disk / gib:.1f} GB free"
    )
    if not state.current:
        session.out("release   none")
    elif record is None or container is None:
        missing = "its record is missing on the machine" if record is None else "it has no container"
        session.out(f"release   {state.current}, but {missing}")
    else:
        data = record.record
        code = (
            f"commit {data['commit']}{' and uncommitted changes' if data['dirty'] else ''}, "
            if data["commit"]
            else ""
        )
        session.out(
            f"release   {state.current}: {code}by {data['by']}; container {container.name}: {container.status}"
        )
    if health is not None:
        session.out(
            f"health    {project.run.health} answers {health.status or 'nothing'} "
            f"in {health.seconds * 1000:.0f} ms  {show.clean(health.text)}"
        )
    tell_beside(session, beside, services)
    tell_moves(session, project, state, busy=bool(busy))
    for kind in busy:
        session.out(f"now       a {kind} is under way; `rehost up` follows it")
    if draining:
        session.out("now       the release before it is finishing its requests")
    for change in drift:
        session.warning(f"{change.field} is not as it must be; `rehost up` puts it right")
    for name in left:
        session.warning(
            f"container {name} still runs, left by a release that was cut off; `rehost up` stops it"
        )
    session.out("healthy" if healthy else "not healthy: see `rehost logs`, `rehost rollback`")
    session.result(
        machine=instance.status if instance else "standing",
        address=here.address,
        release=state.current,
        container=container.status if container else None,
        processes=dict(beside),
        services=dict(services),
        moved={name: dict(made) for name, made in state.moved.items()},
        to_move=to_move(project, state),
        health={"status": health.status, "seconds": health.seconds} if health else None,
        healthy=healthy,
        drift=[change.field for change in drift],
        memory_available=state.memory_available,
        disk_free=state.disk_free,
    )
    return 0 if healthy else 1


def processes_of(state: MachineState, app: str) -> dict[str, str]:
    """What Docker says of each process beside the release that serves."""
    record = state.release(state.current)
    names = record.record["settings"].get("processes", {}) if record is not None else {}
    found = {name: state.part(app, state.current, f"process:{name}") for name in names}
    return {name: one.status if one else "it has no container" for name, one in found.items()}


def services_of(state: MachineState, app: str) -> dict[str, str]:
    """What Docker says of each service."""
    found = {name: state.part(app, 0, f"service:{name}") for name in state.services}
    return {name: one.status if one else "it has no container" for name, one in found.items()}


def tell_beside(session: Session, processes: Mapping[str, str], services: Mapping[str, str]) -> None:
    for name, says in services.items():
        session.out(f"service   {name}: {says}")
        if not says.startswith("Up") or says.endswith("(unhealthy)"):
            session.warning(f"service {name} is not well; `rehost logs --service {name}` tells why")
    for name, says in processes.items():
        session.out(f"process   {name}: {says}")
        if not says.startswith("Up"):
            session.warning(
                f"process {name} does not run; `rehost logs --process {name}` tells why, `rehost up` starts it"
            )


def to_move(project: Project, state: MachineState) -> list[Json]:
    """The moves that were never made on this machine."""
    return [name for name in project.moves if name not in state.moved]


def tell_moves(session: Session, project: Project, state: MachineState, *, busy: bool) -> None:
    """What was moved and what is left to move."""
    if state.moving:
        said = "is under way" if busy else "was cut off; `rehost up` or `rehost move` ends it"
        session.warning(f"a move of data {said}")
    for name, made in state.moved.items():
        session.out(f"moved     {name}: {made['counted']}, {_when(made['time'])}, by {made['by']}")
    if left := to_move(project, state):
        session.out(
            f"to move   {', '.join(map(str, left))}: not moved yet; `rehost move --rehearse` tries it"
        )


def _when(time: int) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _span(seconds: float) -> str:
    minutes = int(seconds // 60)
    days, hours = minutes // 1440, minutes // 60 % 24
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"
