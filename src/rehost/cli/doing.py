"""Carrying a plan out. Loaded only when something is to be done: most runs of `rehost up` end before."""

from __future__ import annotations

import asyncio
import functools
import getpass
import socket
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

from rehost.cli import hooking, imaging, reaching, serving, visit
from rehost.cli.making import (
    CONNECT,
    Wanted,
    cloud_actions,
    connecting,
    machine_actions,
    release_desired,
    resolved,
    settle,
    state_of,
)
from rehost.cli.session import Session
from rehost.cli.site import Site
from rehost.cloud import doers as cloud_doers
from rehost.cloud.access import serial
from rehost.cloud.observe import observe
from rehost.edge import answer
from rehost.machine import bootstrap
from rehost.machine.ssh import MachineError
from rehost.release import build, decide, local_build, mend, prune, ship, switch
from rehost.release.container import Revision
from rehost.run.engine import Doer, Doing
from rehost.run.errors import Exit, RehostError
from rehost.run.plan import Plan

# Actions of the cloud's plan after which an open connection is worth nothing any more.
_BREAKING: Final = ("machine-type/", "power/", "instance/", "external/")
# What the proxy itself answers when nobody stands behind it.
_NOBODY_BEHIND: Final = (502, 503, 504)


async def make(session: Session, here: Site, wanted: Wanted, announced: Plan) -> None:
    """Carries the plan out: the cloud first, then what the machine turns out to need.

    The machine is read anew before its part is done, so that the doers work from what is really there.
    """
    if wanted.project.build.on == "here" and any(action.id == decide.BUILD for action in announced.actions):
        await asyncio.to_thread(local_build.look)  # before anything is made that costs money
    in_cloud = cloud_actions(here)
    if in_cloud and here.client is not None and here.cloud is not None and here.observed is not None:
        doers = cloud_doers.doers(here.client, here.cloud, here.observed)
        await session.apply(Plan.of(in_cloud), doers)
        if here.state is None or any(action.id.startswith(_BREAKING) for action in in_cloud):
            await here.disconnect()
        here.observed = await observe(here.client, here.cloud)
    if here.state is None:
        await session.apply(Plan.of([connecting()]), {CONNECT: lambda doing: _connect(here, doing)})
    await settle(session, here)
    if not wanted.digest:
        wanted = await resolved(session, here, wanted)
    plan = Plan.of(machine_actions(here, wanted))
    if plan and {action.id for action in plan.actions} - {action.id for action in announced.actions}:
        # What the machine shows now needs more than was announced.
        session.show_plan(plan)
    await session.apply(plan, release_doers(session, here, wanted))


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


def release_doers(session: Session, here: Site, wanted: Wanted) -> dict[str, Doer]:
    """The doers of everything on the machine, with the project's hooks around those of a release."""
    number = decide.next_number(state_of(here))
    doers = machine_doers(here, wanted)
    return hooking.around(session, here, doers, number, lambda: revision(wanted.project.directory))


def machine_doers(here: Site, wanted: Wanted) -> dict[str, Doer]:
    """The doers of everything on the machine."""
    app = wanted.project.app
    image = ""

    # Asked for early where there is something to send: git looks at the files meanwhile.
    code = functools.cache(lambda: asyncio.create_task(asyncio.to_thread(revision, wanted.project.directory)))

    async def send(doing: Doing) -> None:
        code()
        await _send(here, wanted, doing)

    async def construct(doing: Doing) -> None:
        nonlocal image
        if wanted.project.build.on == "here":
            await imaging.build_here(here, wanted, doing)
            return
        machine = await here.connect(doing.progress)
        prune.check_memory(state_of(here), here.serving)
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
            by=whoami(),
        )

    async def send_image(doing: Doing) -> None:
        nonlocal image
        await _room(here, doing, prune.BUILD_DISK)
        image = await imaging.send_image(here, wanted, doing, whoami())

    async def pull(doing: Doing) -> None:
        nonlocal image
        await _room(here, doing, prune.BUILD_DISK)
        image = await imaging.pull_image(here, wanted, doing)

    async def release(doing: Doing) -> None:
        machine = await here.connect(doing.progress)
        state = state_of(here)
        desired = release_desired(wanted, here)
        number = decide.next_number(state)
        use = image or decide.built_image(state, desired.context)
        await _room(here, doing, prune.RELEASE_DISK, use)
        prepare_it = switch.prepare_script(desired, state, number, use, await code())
        seen = await switch.switch(
            machine,
            replace(switch.order_for(desired, state, number, use), by=whoami()),
            prepare=prepare_it,
            serving=here.serving,
            say=doing.progress,
            log=doing.log,
            served=here.ask,
        )
        here.released = seen.live
        switch.tell(seen, desired.settings, doing)

    async def routes(doing: Doing) -> None:
        machine = await here.connect(doing.progress)
        state = state_of(here)
        config = decide.proxy_config(release_desired(wanted, here), state)
        await mend.load_routes(machine, config, state.caddy_text)

    async def tidy(doing: Doing) -> None:
        machine = await here.connect(doing.progress)
        state = state_of(here)
        names, grace = decide.leftovers(state, app), wanted.project.run.stop_grace
        await mend.stop_containers(machine, app, state.current, names, grace)

    async def hold(doing: Doing) -> None:
        machine = await here.connect(doing.progress)
        run = wanted.project.run
        await mend.hold(machine, app, state_of(here).current, run.stop_grace, doing.progress)

    return {
        bootstrap.ACTION: functools.partial(_bootstrap, here),
        decide.SETTLE: functools.partial(_settle_move, here),
        decide.SHIP: send,
        decide.BUILD: construct,
        decide.SEND: send_image,
        decide.PULL: pull,
        decide.RELEASE: functools.partial(_with_ports, here, release),
        decide.ROUTES: routes,
        decide.TIDY: tidy,
        reaching.PROVE: functools.partial(reaching.prove, here, wanted),
        decide.HOLD: hold,
        **serving.doers(here, wanted),
    }


async def _send(here: Site, wanted: Wanted, doing: Doing) -> None:
    """Brings the build context onto the machine."""
    machine = await here.connect(doing.progress)
    await _room(here, doing, prune.BUILD_DISK)
    machine.ahead(2)  # of the build and the release
    sent = await ship.ship(
        machine,
        wanted.context,
        build.root_of(wanted.project.app),
        holder=whoami(),
        progress=lambda done, total: doing.progress(f"{done >> 10} of {total >> 10} kB"),
        waiting=doing.progress,
    )
    visit.note_sent(wanted.project.directory, wanted.context.digest)
    doing.note(f"{sent.files_sent} of {sent.total_files} files sent, {sent.bytes_sent} bytes on the wire")


async def _settle_move(here: Site, doing: Doing) -> None:
    from rehost.cli import moving  # seldom

    await moving.settle(here, doing)


async def _room(here: Site, doing: Doing, need: int, image: str = "") -> None:
    """Makes room on the machine's disk for so many bytes. image: one that the next release uses. Raises Refused."""
    await prune.make_room(
        await here.connect(doing.progress),
        app=here.project.app,
        state=state_of(here),
        keep=here.project.run.keep,
        need=need,
        image=image,
        serving=here.serving,
        note=doing.note,
    )


async def _with_ports(here: Site, release: Doer, doing: Doing) -> None:
    """A release that chooses its ports anew when another app of the machine was first with them."""
    try:
        await release(doing)
    except switch.PortsTaken as taken:
        doing.progress(taken.what)
        await here.probe()
        await release(doing)


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


def whoami() -> str:
    """Who types, and where: shown to whoever waits for them, and kept with their releases."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


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
        by=whoami(),
        commit=git("rev-parse", "--short=12", "HEAD") or "",
        dirty=bool(changed),
    )


async def tell(session: Session, here: Site) -> int:
    """Asks the app from this computer, as the world does, and says what it answered."""
    got = await _heard(session, here)
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
    if left := [name for name in here.project.moves if name not in state_of(here).moved]:
        session.note(f"not moved yet: {', '.join(left)}; `rehost move --rehearse` tries it", open_point=True)
    return Exit.DONE


async def _heard(session: Session, here: Site) -> answer.Answer:
    """The app's answer. One that is still starting, because its machine was just started, is waited for.

    Raises RehostError when it does not become healthy within its deadline.
    """
    run = here.project.run
    end = time.monotonic() + run.health_deadline
    while True:
        got = await here.heard()
        if got.status not in _NOBODY_BEHIND:
            return got
        state = await here.probe()
        if state.health is not None and state.health.status in run.health_status:
            # It may be up since we asked; else this is the app's own answer.
            return await here.heard()
        if time.monotonic() > end:
            raise RehostError(
                f"release {state.current} does not answer: {got.url} gives {got.status} after {run.health_deadline} s.",
                where=here.label,
                cure="`rehost logs` shows what it says, `rehost rollback` returns to the release before it.",
            )
        session.progress(f"{got.url} answers {got.status}: waiting for release {state.current} to start")
        await asyncio.sleep(1.0)
