"""From what is wanted and what is there to a plan, and the doers that carry it out."""

from __future__ import annotations

import asyncio
import getpass
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rehost.cli.session import Session
from rehost.cli.site import Site
from rehost.cloud import doers as cloud_doers
from rehost.cloud import plan as cloud_plan
from rehost.cloud.access import serial
from rehost.cloud.observe import observe
from rehost.edge import answer
from rehost.machine import bootstrap, units
from rehost.machine.probe import MachineState
from rehost.machine.ssh import MachineError
from rehost.project import dotenv
from rehost.project.config import Project
from rehost.release import build, context, decide, mend, ship, switch
from rehost.release.container import Revision, Settings, environment
from rehost.run.engine import Doer, Doing
from rehost.run.errors import Exit, RehostError, UsageError
from rehost.run.plan import Action, Plan
from rehost.run.secret import Secret

CONNECT: Final = "machine/connect"
LATER: Final = "machine/later"
# Actions of the cloud's plan after which an open connection is worth nothing any more.
_BREAKING: Final = ("machine-type/", "power/", "instance/", "external/")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What should serve, as far as this computer alone can tell."""

    project: Project
    values: Mapping[str, Secret]
    context: context.Context


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
    return environment(found.values, project.run.port)


def learn_secrets(session: Session, project: Project) -> None:
    """Masks the environment's values from here on, for commands that do without the env files if they must."""
    try:
        session.bus.scrubber.add(dotenv.read_env(project).values.values())
    except UsageError as missing:
        session.warning(f"values of secrets are not masked: {missing.what}")


def read_context(project: Project) -> context.Context:
    return context.read(
        project.directory,
        context=project.build.context,
        dockerfile=project.build.dockerfile,
        args=project.build.args,
        allow=project.build.allow,
    )


async def read_wanted(session: Session, project: Project) -> Wanted:
    """Reads env files and build context. Raises UsageError or Refused before anything is touched."""
    values = read_values(session, project)
    return Wanted(project, values, await asyncio.to_thread(read_context, project))


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
    )


def release_desired(wanted: Wanted, here: Site) -> decide.Desired:
    return decide.Desired(
        app=wanted.project.app,
        context=wanted.context.digest,
        values=wanted.values,
        settings=settings_of(wanted.project),
        hosts=here.hosts,
        keep=wanted.project.run.keep,
    )


def cloud_actions(here: Site) -> list[Action]:
    if here.cloud is None or here.observed is None:
        return []
    return cloud_plan.plan(here.cloud, here.observed)


def machine_actions(here: Site, wanted: Wanted) -> list[Action]:
    return [*bootstrap.plan(here.state), *decide.plan(release_desired(wanted, here), here.state)]


def whole_plan(here: Site, wanted: Wanted) -> Plan:
    """Everything that would change. On a machine that cannot be read yet, all of its part is new."""
    in_cloud = cloud_actions(here)
    actions = [*in_cloud, *machine_actions(here, wanted)]
    if here.state is None:
        needs = tuple(action.id for action in in_cloud)
        if here.observed is not None and here.observed.instance is not None:
            # It stands and does not let us in yet: what is on it is unknown, and not to be called new.
            later = Action(
                LATER, "run", "what the machine turns out to need: it cannot be read yet", needs=(CONNECT,)
            )
            return Plan.of(
                [*in_cloud, Action(CONNECT, "run", "reach the machine over ssh", needs=needs), later]
            )
        actions.append(Action(CONNECT, "run", "reach the machine over ssh", needs=needs))
        actions = [
            Action(a.id, a.verb, a.what, a.changes, (*a.needs, CONNECT), a.retries)
            if a.id in (bootstrap.ACTION, decide.SHIP)
            else a
            for a in actions
        ]
    return Plan.of(actions)


async def make(session: Session, here: Site, wanted: Wanted, announced: Plan) -> None:
    """Carries the plan out: the cloud first, then what the machine turns out to need.

    The machine is read anew before its part is done, so that the doers work from what is really there.
    """
    in_cloud = cloud_actions(here)
    if in_cloud and here.client is not None and here.cloud is not None and here.observed is not None:
        doers = cloud_doers.doers(here.client, here.cloud, here.observed)
        await session.apply(Plan.of(in_cloud), doers)
        if here.state is None or any(action.id.startswith(_BREAKING) for action in in_cloud):
            await here.disconnect()
        here.observed = await observe(here.client, here.cloud)
    if here.state is None:
        reach = Plan.of([Action(CONNECT, "run", "reach the machine over ssh")])
        await session.apply(reach, {CONNECT: lambda doing: _connect(here, doing)})
    await settle(session, here)
    plan = Plan.of(machine_actions(here, wanted))
    if plan and {action.id for action in plan.actions} - {action.id for action in announced.actions}:
        # What the machine shows now needs more than was announced.
        session.show_plan(plan)
    await session.apply(plan, machine_doers(here, wanted))


async def settle(session: Session, here: Site) -> None:
    """Lets a build or release that is under way on the machine end: its outcome decides what is left to do."""
    app = here.project.app
    for kind in ("build", "release"):
        unit = f"rehost-{app}-{kind}.service"
        if here.state is not None and here.machine is not None and here.state.unit(unit).running:
            session.note(f"a {kind} runs on the machine already; following it")
            await units.follow(here.machine, unit, f"/var/lib/rehost/{app}/{kind}", session.progress)
            await here.probe()


async def _connect(here: Site, doing: Doing) -> None:
    """Waits until the machine lets us in, showing what its console says meanwhile."""

    async def console() -> None:
        position = 0
        while here.client is not None and here.cloud is not None:
            text, position = await serial(here.client, here.cloud, position)
            lines = [line for line in text.splitlines() if line.strip()]
            for line in lines:
                doing.log(line)
            await asyncio.sleep(1.0)

    watching = asyncio.create_task(console())
    try:
        await here.connect(doing.progress)
        await here.probe()
    finally:
        watching.cancel()
        # The console is a help; an error in reading it is not the connection's.
        await asyncio.gather(watching, return_exceptions=True)


def machine_doers(here: Site, wanted: Wanted) -> dict[str, Doer]:
    """The doers of everything on the machine."""
    app = wanted.project.app
    image = ""

    async def prepare(doing: Doing) -> None:
        await _bootstrap(here, doing)

    async def send(doing: Doing) -> None:
        machine = await here.connect(doing.progress)
        sent = await ship.ship(
            machine,
            wanted.context,
            build.root_of(app),
            holder=f"{getpass.getuser()}@{socket.gethostname()}",
            progress=lambda done, total: doing.progress(f"{done >> 10} of {total >> 10} kB"),
            waiting=doing.progress,
        )
        doing.note(f"{sent.files_sent} of {sent.total_files} files sent, {sent.bytes_sent} bytes on the wire")

    async def construct(doing: Doing) -> None:
        nonlocal image
        machine = await here.connect(doing.progress)
        decide.check_room(state_of(here), here.serving)
        image = await build.build(
            machine,
            app=app,
            context=wanted.context.digest,
            fingerprint=ship.fingerprint(ship.wanted(wanted.context)),
            args=wanted.project.build.args,
            serving=here.serving,
            say=doing.progress,
            log=doing.log,
            note=doing.note,
        )

    async def release(doing: Doing) -> None:
        machine = await here.connect(doing.progress)
        state = state_of(here)
        desired = release_desired(wanted, here)
        number = decide.next_number(state)
        use = image or decide.built_image(state, desired.context)
        prepare_it = switch.prepare_script(desired, state, number, use, revision(wanted.project.directory))
        seen = await switch.switch(
            machine,
            switch.order_for(desired, state, number, use),
            prepare=prepare_it,
            serving=here.serving,
            say=doing.progress,
            log=doing.log,
        )
        here.released = seen.live
        doing.note(f"release {seen.live} serves; {desired.settings.health} answers {seen.answer}")

    async def routes(doing: Doing) -> None:
        machine = await here.connect(doing.progress)
        await mend.load_routes(machine, decide.proxy_config(release_desired(wanted, here), state_of(here)))

    async def tidy(doing: Doing) -> None:
        machine = await here.connect(doing.progress)
        names = decide.leftovers(state_of(here), app)
        await mend.stop_containers(machine, names, wanted.project.run.stop_grace)

    return {
        bootstrap.ACTION: prepare,
        decide.SHIP: send,
        decide.BUILD: construct,
        decide.RELEASE: release,
        decide.ROUTES: routes,
        decide.TIDY: tidy,
    }


async def _bootstrap(here: Site, doing: Doing) -> None:
    machine = await here.connect(doing.progress)
    state = state_of(here)
    if here.client is not None and state.bootstrap.get("result") != "failed":
        await bootstrap.wait_for_startup(machine, doing.progress)
        state = await here.probe()
    if bootstrap.drift(state):

        def line(text: str) -> None:
            doing.log(text)
            if text.startswith("rehost: "):
                doing.progress(text.removeprefix("rehost: "))

        await bootstrap.hold(machine, state, line)
        state = await here.probe()
        if left := bootstrap.drift(state):
            raise MachineError(
                "the machine is not as it must be: " + ", ".join(change.field for change in left),
                where=machine.label,
                cure="Something else manages these there; see `rehost plan`.",
            )


def state_of(here: Site) -> MachineState:
    """What the last probe saw. Raises RehostError when there was none."""
    if here.state is None:
        raise RehostError("the machine was not read yet", cure="Run the same command again.")
    return here.state


def revision(directory: Path) -> Revision:
    """Who releases which code. Outside git, or without git, there is no commit to name."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", *arguments], cwd=directory, capture_output=True, text=True, check=False, timeout=10
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    changed = git("status", "--porcelain", "--", ".")
    return Revision(
        by=f"{getpass.getuser()}@{socket.gethostname()}",
        commit=git("rev-parse", "--short=12", "HEAD") or "",
        dirty=bool(changed),
    )


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


async def tell(session: Session, here: Site) -> int:
    """Asks the app from this computer, as the world does, and says what it answered."""
    project = here.project
    got = await answer.ask(here.address, "/", project.domain.name or "")
    release = here.released or state_of(here).current
    session.result(
        changed=True,
        url=got.url,
        status=got.status,
        answer=got.text,
        release=release,
        address=here.address,
    )
    if got.status == 0:
        raise RehostError(
            f"release {release} is healthy on the machine, and {got.url} does not answer from here: {got.text}.",
            where=here.machine.label if here.machine else "",
            serving=f"release {release}",
            cure="Does a firewall on the way close port 80? `rehost plan` shows what is amiss in the cloud.",
        )
    session.out(f"{got.url} answers {got.status}: {got.text.strip()}")
    return Exit.DONE
