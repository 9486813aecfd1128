"""From what is wanted and what is there to a plan, and the doers that carry it out."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from rehost.cli import visit
from rehost.cli.session import Session
from rehost.cli.site import Site
from rehost.cloud import plan as cloud_plan
from rehost.machine import bootstrap, units
from rehost.machine.probe import MachineState
from rehost.project import dotenv, platform
from rehost.project.config import Project
from rehost.release import context, decide, hooks
from rehost.release.container import Settings, environment
from rehost.release.jobs import Job
from rehost.release.processes import Process
from rehost.release.services import Service
from rehost.run.errors import Exit, RehostError, UsageError
from rehost.run.plan import Action, Plan
from rehost.run.secret import Secret

if TYPE_CHECKING:
    from rehost.release import registry

CONNECT: Final = "machine/connect"
LATER: Final = "machine/later"


class Wanted(NamedTuple):
    """What should serve, as far as this computer alone can tell.

    digest: of a prebuilt image, as the registry told. login: what the registry is told in turn.
    """

    project: Project
    values: Mapping[str, Secret]
    context: context.Context
    files: Mapping[str, Secret] = MappingProxyType({})
    digest: str = ""
    login: registry.Login | None = None


def read_values(session: Session, project: Project) -> Mapping[str, Secret]:
    """The container's environment. From here on its values are masked wherever they turn up.

    Raises UsageError when a required variable is missing: the app would refuse to start.
    """
    found = dotenv.read_env(project)
    session.bus.scrubber.add(found.values.values())
    if found.missing:
        names = ", ".join(found.missing)
        raise UsageError(
            f"required variables are missing: {names}.",
            where=", ".join(project.env.files) or "rehost.toml, [env] files",
            cure=f"Add them with `rehost env set {found.missing[0]}`, "
            "or take them out of `required` under [env] in rehost.toml.",
        )
    given = {name: value for name, value in found.values.items() if name not in project.origins}
    return environment(given, project.run.port)


def with_platform(
    project: Project, values: Mapping[str, Secret], read: context.Context
) -> Mapping[str, Secret]:
    """The container's environment with Render's own variables that the sources name.

    The user's values win, and so do those of the image.
    """
    if not read.platform:
        return values
    from rehost.project import dockerfile  # most apps name none of them, and do without

    image = dockerfile.parse(read.dockerfile.decode("utf-8-sig", "replace"), project.build.dockerfile).env
    expected = platform.values(read.platform - {*image}, project)
    return environment(values, project.run.port, expected)


def learn_secrets(session: Session, project: Project) -> None:
    """Masks the environment's values from here on, for commands that do without the env files if they must."""
    try:
        session.bus.scrubber.add(dotenv.read_env(project).values.values())
    except UsageError as missing:
        session.warning(f"values of secrets are not masked: {missing.what}")


def read_context(project: Project) -> context.Context:
    if project.build.image:
        return context.Context(project.directory, (), b"")  # nothing is built
    return context.read(
        project.directory,
        context=project.build.context,
        dockerfile=project.build.dockerfile,
        args=project.build.args,
        allow=project.build.allow,
    )


def services_of(project: Project, values: Mapping[str, Secret]) -> dict[str, Service]:
    """Raises UsageError when a service is to get a variable that the app does not have."""
    found = {}
    for name, one in project.services.items():
        for variable in one.env:
            if variable not in values:
                raise UsageError(
                    f"service {name} is to get the variable {variable}, and there is none.",
                    where=f"rehost.toml, [services.{name}] env",
                    cure=f"Add it with `rehost env set {variable}`.",
                )
        given = {variable: values[variable] for variable in one.env}
        found[name] = Service(one.image, one.command or "", one.memory, one.volumes, one.health or "", given)
    return found


async def read_wanted(session: Session, project: Project) -> Wanted:
    """Reads env files and build context. Raises UsageError or Refused before anything is touched."""
    hooks.find(project.directory)  # one that cannot be run is told before anything is touched
    values = read_values(session, project)
    read = await asyncio.to_thread(read_context, project)
    return Wanted(project, with_platform(project, values, read), read, read_files(session, project, read))


def expect(ahead: visit.Ahead, wanted: Wanted) -> None:
    """Other code than was sent last from here is taken in by the machine, which can begin while it is probed."""
    project = wanted.project
    if project.build.image or project.build.on == "here" or (project.directory / hooks.FOLDER).exists():
        return
    if visit.sent_before(project.directory, wanted.context.digest):
        return
    from rehost.cli import doing  # there is something to do
    from rehost.release import build, ship

    ahead.app = project.app
    ahead.begin = ship.script(ship.wanted(wanted.context), build.root_of(project.app), doing.whoami())


def read_files(session: Session, project: Project, read: context.Context) -> Mapping[str, Secret]:
    """The container's secret files, masked from here on. Raises UsageError, or Refused for one in the image."""
    if not project.env.secret_files:
        return {}
    from rehost.project import secret_files  # most apps have none

    found = secret_files.read(project)
    session.bus.scrubber.add(secret_files.texts(found))
    secret_files.refuse_shipped(project, {entry.path for entry in read.entries})
    return found


def settings_of(project: Project) -> Settings:
    run = project.run
    return Settings(
        port=run.port,
        health=run.health,
        health_low=run.health_status.low,
        health_high=run.health_status.high,
        health_host=project.health_host,
        health_deadline=run.health_deadline,
        memory=run.memory,
        stop_grace=run.stop_grace,
        drain=run.drain,
        watch_for=run.watch_for,
        before_release=run.before_release,
        before_release_limit=run.before_release_limit,
        exclusive=run.exclusive,
        volumes=run.volumes,
        processes={
            name: Process(one.command, one.memory or run.memory) for name, one in project.processes.items()
        },
        network=bool(project.services),
        jobs={
            name: Job(one.command, one.schedule, one.max_run, one.memory or run.memory)
            for name, one in project.jobs.items()
        },
    )


def release_desired(wanted: Wanted, here: Site) -> decide.Desired:
    return decide.Desired(
        app=wanted.project.app,
        context=wanted.digest if wanted.project.build.image else wanted.context.digest,
        values=wanted.values,
        settings=settings_of(wanted.project),
        hosts=here.hosts,
        keep=wanted.project.run.keep,
        files=wanted.files,
        build=wanted.project.build.on,
        image=wanted.project.build.image or "",
        services=services_of(wanted.project, wanted.values),
    )


async def resolved(session: Session, here: Site, wanted: Wanted) -> Wanted:
    """With the digest of a prebuilt image, which the registry is asked for by way of the machine."""
    if not wanted.project.build.image:
        return wanted
    from rehost.cli import imaging  # most apps are built

    return await imaging.resolve(session, here, wanted)


def cloud_actions(here: Site) -> list[Action]:
    if here.cloud is None or here.observed is None:
        return []
    return cloud_plan.plan(here.cloud, here.observed)


def machine_actions(here: Site, wanted: Wanted) -> list[Action]:
    return [*bootstrap.plan(here.state), *release_actions(here, wanted)]


def release_actions(here: Site, wanted: Wanted) -> list[Action]:
    """The release's own, with a login to each database that it names anew."""
    actions = decide.plan(release_desired(wanted, here), here.state)
    if not actions:
        return actions
    from rehost.cli import reaching  # nothing to release: nothing to try

    return reaching.before(actions, wanted, here.state)


def whole_plan(here: Site, wanted: Wanted) -> Plan:
    """Everything that would change. On a machine that cannot be read yet, all of its part is new."""
    in_cloud = cloud_actions(here)
    if here.state is not None:
        return Plan.of([*in_cloud, *machine_actions(here, wanted)])
    reach = connecting(tuple(action.id for action in in_cloud))
    if here.observed is not None and here.observed.instance is not None:
        # It stands and does not let us in yet: what is on it is unknown, and not to be called new.
        what = "what the machine turns out to need: it cannot be read yet"
        return Plan.of([*in_cloud, reach, Action(LATER, "run", what, needs=(CONNECT,))])
    first = (bootstrap.ACTION, decide.SHIP)
    new = [
        action._replace(needs=(*action.needs, CONNECT)) if action.id in first else action
        for action in machine_actions(here, wanted)
    ]
    return Plan.of([*in_cloud, reach, *new])


def connecting(needs: tuple[str, ...] = ()) -> Action:
    """The step that waits until the machine lets us in."""
    return Action(CONNECT, "run", "reach the machine over ssh", needs=needs)


async def settle(session: Session, here: Site) -> None:
    """Lets a build or release that is under way on the machine end: its outcome decides what is left to do."""
    app = here.project.app
    for kind in ("build", "release"):
        unit = f"rehost-{app}-{kind}.service"
        if here.state is not None and here.machine is not None and here.state.unit(unit).running:
            session.note(f"a {kind} runs on the machine already; following it")
            line = functools.partial(_followed, session, kind)
            await units.follow(here.machine, unit, f"/var/lib/rehost/{app}/{kind}", line)
            await here.probe()


def _followed(session: Session, kind: str, line: str) -> None:
    """A line of work that somebody else began: who, and how far it is."""
    from rehost.release.history import holder  # seldom

    if said := holder(line):
        session.note(f"the {kind} is {said}")
    else:
        session.progress(line.removeprefix("@step ").removeprefix("@try "))


def state_of(here: Site) -> MachineState:
    """What the last probe saw. Raises RehostError when there was none."""
    if here.state is None:
        raise RehostError("the machine was not read yet", cure="Run the same command again.")
    return here.state


async def wake(session: Session, here: Site) -> None:
    """Waits for an app that is starting because its machine was started just now, for as long as a release may take."""
    run = here.project.run
    while (state := state_of(here)).uptime < run.health_deadline:
        if state.health is not None and state.health.status in run.health_status:
            return
        session.progress(f"the machine was just started: waiting for release {state.current}")
        await asyncio.sleep(1.0)
        await here.probe()


def unchanged(session: Session, here: Site) -> int:
    """Says that all is in place, and looks whether the app really answers."""
    state = state_of(here)
    health = state.health
    run = here.project.run
    healthy = health is not None and health.status in run.health_status
    said = f"{health.status} in {health.seconds * 1000:.0f} ms" if health else "nothing"
    session.out(
        f"Nothing to do: release {state.current} of {here.project.app} serves at http://{here.address}/; "
        f"{run.health} answers {said}."
    )
    execs = here.machine.execs if here.machine else 0
    session.result(
        changed=False, url=f"http://{here.address}/", release=state.current, healthy=healthy, execs=execs
    )
    if not healthy:
        session.warning(
            f"release {state.current} is not healthy: {run.health} answers {said}; see `rehost logs`, "
            "`rehost rollback`"
        )
        return Exit.FAILED
    return Exit.DONE
