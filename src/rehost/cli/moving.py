"""What `rehost move` works with: the movers that [moves] asks for, what they found, and the plan of it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from rehost.cli import making, reaching
from rehost.cli.session import Session
from rehost.cli.site import Site
from rehost.machine.probe import MachineState
from rehost.machine.ssh import Machine, Unreachable, connect
from rehost.machine.told import Told
from rehost.project import dotenv, secret_files
from rehost.project.config import Project
from rehost.project.moves import Directory, Origin, Variable
from rehost.project.nearest import nearest
from rehost.release import decide, switch
from rehost.release.container import Settings, volume_name
from rehost.run.engine import Doing
from rehost.run.errors import Refused, RehostError, UsageError
from rehost.run.plan import Action, Change, Plan
from rehost.run.record import duration
from rehost.run.secret import Secret
from rehost.source import move_swap
from rehost.source.moving import Content, Copied, Mover
from rehost.source.reach_url import Database, databases

COPY: Final = "copy/"
SWAP: Final = "move/swap"
INTERRUPTION: Final = Change("AN INTERRUPTION", None, "nothing serves while the app stops and starts")


class Move(NamedTuple):
    """One move of this run. kind: "volume" or "service". origin, target: what they hold, once they were looked at."""

    mover: Mover
    kind: str
    source: Origin
    origin: Content = Content("", empty=True)
    target: Content = Content("", empty=True)

    @property
    def name(self) -> str:
        return self.mover.name


def chosen(project: Project, names: Sequence[str]) -> dict[str, Origin]:
    """The moves that were named, all without names, in the order of rehost.toml. Raises UsageError."""
    if not project.moves:
        raise UsageError(
            "there is nothing to move: rehost.toml has no [moves].",
            cure="Name a volume or a service there, and where its content is: docs/moving-data.md shows how.",
            where="rehost.toml",
        )
    for name in names:
        if name not in project.moves:
            near = nearest(name, project.moves)
            known = ", ".join(project.moves)
            raise UsageError(
                f"[moves] has no {name}.",
                cure=f'Did you mean "{near}"?' if near else f"It has: {known}.",
                where="rehost.toml",
            )
    return {name: where for name, where in project.moves.items() if not names or name in names}


def addresses(session: Session, project: Project) -> dict[str, Secret]:
    """The env files' variables, and over them those of the environment that [moves] names. Masked from here on."""
    values = dict(dotenv.read_env(project).values)
    for name in project.origins:
        if name in os.environ:
            values[name] = Secret(os.environ[name])
    session.bus.scrubber.add(values.values())
    session.bus.scrubber.add(each.password for each in databases(values) if each.password.reveal())
    return values


def old_database(name: str, variable: str, values: Mapping[str, Secret]) -> Database:
    """The database that a service takes over. Raises UsageError."""
    where = f"rehost.toml, [moves] {name}"
    if not values.get(variable, Secret("")).reveal():
        raise UsageError(
            f"{variable} is to hold the address of the database that {name} takes over, and is not given.",
            where=where,
            cure=f"Type `rehost env set {variable}`, or `export {variable}=...` for this command alone.",
        )
    found = databases({variable: values[variable]})
    if not found or found[0].server not in ("postgresql", "redis"):
        kind = found[0].server if found else "no address of a database"
        raise UsageError(
            f"{variable} is {kind}; rehost moves PostgreSQL and Redis.",
            where=where,
            cure='It looks like "postgresql://USER:PASSWORD@HOST/NAME" or "rediss://USER:PASSWORD@HOST:6379".',
        )
    database = found[0]
    if database.hosts[0][0] == name:
        raise UsageError(
            f"{variable} is the address of the service {name} itself.",
            where=where,
            cure="Put the address of the database as it is today into a variable of its own, and name that here.",
        )
    if database.inside:
        raise UsageError(
            f"{variable} names {database.hosts[0][0]}, which is known inside its platform alone.",
            where=where,
            cure="Write the external address (Render: Connect, External).",
        )
    return database


def new_database(name: str, origin: Database, values: Mapping[str, Secret]) -> Database | None:
    """The app's own address of the service, which says database and user; None when no variable names the service."""
    found = (each for each in databases(values) if each.hosts[0][0] == name and each.server == origin.server)
    return next(found, None)


def check_there(project: Project, state: MachineState, moves: Mapping[str, Origin], where: str) -> Settings:
    """The settings of the release that serves. Raises Refused while the machine has no place for what is to come."""
    record = state.release(state.current)
    if record is None:
        raise Refused(
            f"no release of {project.app} serves yet.",
            where=where,
            cure="Type `rehost up` first: it makes the volumes and services that take the content.",
        )
    settings = Settings.from_json(record.record["settings"])
    volumes = {each.partition(":")[0] for each in settings.volumes}
    for service in state.services.values():
        volumes |= {each.partition(":")[0] for each in service.get("volumes", ())}
    for name, origin in moves.items():
        if isinstance(origin, Directory):
            if name not in volumes:
                raise Refused(
                    f"the release that serves has no volume {name}.",
                    where=where,
                    cure="Type `rehost up` first: rehost.toml has changed since that release.",
                )
            continue
        there = state.part(project.app, 0, f"service:{name}")
        if there is None or there.state != "running":
            raise Refused(
                f"service {name} does not run ({there.state if there else 'it is not there'}).",
                where=where,
                cure=f"Type `rehost up`; `rehost logs --service {name}` tells why it ended.",
            )
    return settings


def still(state: MachineState, moves: Mapping[str, Origin]) -> tuple[str, ...]:
    """The services that must stand still during the swap: those whose volumes move."""
    return tuple(
        service
        for service, record in state.services.items()
        for name, origin in moves.items()
        if isinstance(origin, Directory)
        and any(each.partition(":")[0] == name for each in record.get("volumes", ()))
    )


async def connect_origin(where: Directory, name: str) -> Machine:
    """An ssh connection to where a directory is. Raises RehostError, in the words of that side."""
    try:
        return await connect(where.host, user=where.user, label=f"{name} ({where.host})")
    except Unreachable as closed:
        login = f"{where.user}@{where.host}" if where.user else where.host
        raise RehostError(
            f"{where} cannot be reached: {closed.what}.",
            where=f"[moves] {name}",
            cure=f"`ssh {login}` must work from here without a question. The first time, compare the host key that "
            "it shows. At Render the service must be paid and run (in maintenance mode it does, suspended it doesn't), "
            "and your public key must stand in Account settings, SSH Public Keys.",
        ) from closed


async def open_moves(
    session: Session, here: Site, moves: Mapping[str, Origin], stack: AsyncExitStack, *, rehearse: bool
) -> list[Move]:
    """A mover for each, with the connections that it needs; `stack` closes them. Raises RehostError."""
    project, machine = here.project, await here.connect()
    values = addresses(session, project)
    found: list[Move] = []
    for name, source in moves.items():
        mover: Mover
        if isinstance(source, Variable):
            mover = _of_service(here, machine, name, source, values, rehearse=rehearse)
        else:
            from rehost.source.move_files import Files

            session.progress(f"connecting to {source.host}")
            other = await connect_origin(source, name)
            stack.push_async_callback(other.close)
            volume = volume_name(project.app, name)
            mover = Files(other, source.path, machine, volume, name=name, app=project.app, rehearse=rehearse)
        stack.push_async_callback(mover.close)
        found.append(Move(mover, "volume" if isinstance(source, Directory) else "service", source))
    return found


def _of_service(
    here: Site, machine: Machine, name: str, source: Variable, values: Mapping[str, Secret], *, rehearse: bool
) -> Mover:
    project = here.project
    origin = old_database(name, source.name, values)
    own = {each: value for each, value in values.items() if each not in project.origins}
    target = new_database(name, origin, own)
    files = secret_files.read(project) if project.env.secret_files else {}
    door, container = reaching.door(here, machine, files), f"{project.app}.{name}"
    if origin.server == "redis":
        from rehost.source.move_redis import Redis

        return Redis(door, machine, origin, target, container, name, rehearse)
    from rehost.source.move_postgres import Postgres

    return Postgres(door, machine, origin, target, container, name, project.app)


async def look(moves: Sequence[Move]) -> list[Move]:
    """The same with what both sides hold, looked at together. Raises the first error."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each.mover.look()) for each in moves]
    except BaseExceptionGroup as several:
        raise several.exceptions[0] from None
    found = (task.result() for task in tasks)
    return [
        each._replace(origin=origin, target=target)
        for each, (origin, target) in zip(moves, found, strict=True)
    ]


def plan_of(moves: Sequence[Move], app: str, *, rehearse: bool) -> Plan:
    """What is copied, and what the swap replaces. A rehearsal only copies."""
    copies = [
        Action(
            f"{COPY}{each.name}",
            "run",
            f"copy {each.kind} {each.name} ({each.origin.words}) from {each.source}",
        )
        for each in moves
    ]
    if rehearse:
        return Plan.of(copies)
    changes = tuple(
        Change(
            f"{each.kind} {each.name}", None if each.target.empty else each.target.words, each.origin.words
        )
        for each in moves
    )
    full = [each.name for each in moves if not each.target.empty]
    what = f"what {app} works on" + (f"; what {', '.join(full)} had is kept aside" if full else "")
    swap = Action(
        SWAP,
        "replace" if full else "update",
        what,
        (*changes, INTERRUPTION),
        tuple(one.id for one in copies),
        kept=True,
    )
    return Plan.of([*copies, swap])


def order(here: Site, settings: Settings, services: Sequence[str], by: str) -> move_swap.Order:
    """What the swap has to know of the release that serves."""
    scripts = Path(switch.__file__).parent
    return move_swap.Order(
        app=here.project.app,
        number=making.state_of(here).current,
        host=settings.health_host,
        health=settings.health,
        low=settings.health_low,
        high=settings.health_high,
        deadline=settings.health_deadline,
        grace=settings.stop_grace,
        drain=settings.drain,
        functions="".join((scripts / name).read_text() for name in ("containers.sh", "beside.sh")),
        services=services,
        by=by,
    )


async def settle(here: Site, doing: Doing) -> None:
    """Brings a swap that was cut off to its end. Raises RehostError."""
    machine = await here.connect(doing.progress)
    seen = await move_swap.settle(machine, here.project.app, doing.progress, doing.log)
    if seen.live:
        doing.note("the move that was cut off is made: all is in place, and the app is healthy on it")
    elif seen.back:
        doing.note("the move that was cut off is taken back: the app works on what it had before")
    else:
        doing.note("the move that was cut off had not changed anything")
    if seen.left:
        doing.warning(seen.left)


async def settle_first(session: Session, here: Site) -> None:
    """Before a new move: lets what is under way end, and ends one that was cut off."""
    await making.settle(session, here)
    if making.state_of(here).moving:
        await session.apply(Plan.of([decide.settling()]), {decide.SETTLE: partial(settle, here)})
        await here.probe()


def tell_notes(session: Session, moves: Sequence[Move], told: set[str]) -> None:
    """What the movers have to say, each thing once."""
    for each in moves:
        for note in each.mover.notes:
            text = f"{each.name}: {note}"
            if text not in told:
                told.add(text)
                session.warning(text)


def tell(
    session: Session,
    moves: Sequence[Move],
    copied: Mapping[str, Copied],
    seconds: Mapping[str, float],
    swapped: Told,
) -> None:
    """What a run did."""
    session.result(
        rehearsal=not swapped.live,
        release=swapped.live or None,
        downtime=round(swapped.down, 3) if swapped.live else None,
        moves=[
            {"name": name, "from": str(source), **copied[name]._asdict(), "seconds": round(seconds[name], 3)}
            for name, source in ((each.name, each.source) for each in moves)
        ],
    )
    for each in moves:
        done = copied[each.name]
        session.out(
            f"{each.name}: {done.counted}, compared; {done.sent} sent in {duration(seconds[each.name])}"
        )
    longest = duration(max(seconds.values()))
    if not swapped.live:
        session.out(
            "Nothing that serves was touched. In the move itself the old app must keep still while it copies (now that "
            f"took {longest}; a further rehearsal sends only what has changed since), and then the app here stops and "
            "starts."
        )
        return
    session.out(
        f"Release {swapped.live} works on what was moved, after {swapped.down:.1f} s in which nothing served; "
        f"its health check answers {swapped.answer}"
    )
    for each in moves:
        if kept := each.mover.before():
            session.note(f"{each.name}: {kept}", open_point=True)
    session.out(
        "Next: look whether all is there; then let the traffic follow, and keep the old one for some days."
    )
