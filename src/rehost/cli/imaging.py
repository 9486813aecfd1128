"""Bringing an image onto the machine that is not built there: built here and sent, or pulled."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from rehost.cli.making import Wanted, state_of
from rehost.cli.session import Session
from rehost.cli.site import Site
from rehost.project.config import Project
from rehost.release import build, decide, local_build, pull, registry, send
from rehost.release.context import STATE
from rehost.run.engine import Doing
from rehost.run.errors import RehostError

# Seconds before a send that a broken line stopped goes on.
_PAUSES: Final = (1, 2, 4, 8, 16, 30)


async def build_here(here: Site, wanted: Wanted, doing: Doing) -> None:
    await local_build.build(
        app=wanted.project.app,
        context=wanted.context,
        args=wanted.project.build.args,
        platform=state_of(here).platform,
        state=_state(wanted.project),
        serving=here.serving,
        say=doing.progress,
        log=doing.log,
    )


async def send_image(here: Site, wanted: Wanted, doing: Doing, holder: str) -> str:
    """Sends what was built here; returns the image's id on the machine."""
    app, digest = wanted.project.app, wanted.context.digest
    taken = local_build.taken_out(
        app, digest, platform=state_of(here).platform, state=_state(wanted.project), progress=doing.progress
    )
    async with taken as saved:
        # Not the engine's retries: the image would be taken out of Docker each time.
        for pause in (*_PAUSES, None):
            try:
                sent = await send.send(
                    await here.connect(doing.progress),
                    saved,
                    directory=f"/var/lib/rehost/{app}/image",
                    tag=build.tag(app, digest),
                    holder=holder,
                    serving=here.serving,
                    progress=doing.progress,
                )
                break
            except RehostError as broken:
                if not broken.retryable or pause is None:
                    raise
                _hang_up(here)
                doing.warning(f"{broken.what} Going on in {pause} s with what is missing.")
                await asyncio.sleep(pause)
    resumed = f", {sent.resumed} were there from before" if sent.resumed else ""
    doing.note(
        f"{sent.layers_sent} of {sent.layers} layers sent, {sent.bytes_sent} bytes on the wire{resumed}"
    )
    return sent.image


async def resolve(session: Session, here: Site, wanted: Wanted) -> Wanted:
    """What the image's name means now. A digest is what it is; a tag is asked for, with one exec.

    A registry that does not answer keeps nobody from releasing what the machine has already.
    Raises RehostError when the image cannot be had.
    """
    name, state = wanted.project.build.image or "", here.state
    reference = registry.parse(name)
    if reference.digest and state is not None and decide.built_image(state, reference.digest):
        return wanted._replace(digest=reference.digest)
    login = await asyncio.to_thread(registry.login, reference.registry)
    if login is not None:
        session.bus.scrubber.add([login.header, login.password])
    wanted = wanted._replace(login=login)
    if reference.digest:
        return wanted._replace(digest=reference.digest)
    now = decide.current(state) if state else None
    known = str(now.record.get("context")) if now and now.record.get("source") == name else ""
    if state is None or not state.platform:
        return wanted._replace(digest=known)  # a machine without Docker can't ask
    machine = await here.connect(session.progress)
    session.progress(f"asking {reference.registry} for {name}")
    try:
        digest = await pull.ask(machine, reference, login, state.platform)
    except pull.RegistryAway as away:
        if not known:
            raise
        session.warning(f"{away.what} {name} is taken for what it was, {known[7:19]}.")
        digest = known
    return wanted._replace(digest=digest)


async def pull_image(here: Site, wanted: Wanted, doing: Doing) -> str:
    """Pulls the prebuilt image; returns its id on the machine."""
    reference = registry.parse(wanted.project.build.image or "")
    machine = await here.connect(doing.progress)
    try:
        return await pull.pull(
            machine,
            reference,
            wanted.digest,
            wanted.login,
            app=wanted.project.app,
            platform=state_of(here).platform,
            progress=doing.progress,
        )
    except RehostError as broken:
        if broken.retryable:
            _hang_up(here)
        raise


def _hang_up(here: Site) -> None:
    """What is tried again connects anew: a connection that broke serves nobody any more."""
    if here.machine is not None:
        here.machine.abort()
        here.machine = None


def _state(project: Project) -> Path:
    return project.directory / STATE
