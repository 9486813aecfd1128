"""An app and its machine as one command sees them: what is wanted, what is there, and the open connections."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence

from rehost.cli import visit
from rehost.cli.session import Session
from rehost.cloud import host
from rehost.cloud.access import reach as ask_reach
from rehost.cloud.client import Client
from rehost.cloud.credentials import Credentials, find, project_of
from rehost.cloud.model import Desired, Observed, Reach
from rehost.cloud.observe import observe
from rehost.edge import answer
from rehost.machine import keys
from rehost.machine.bootstrap import startup_script
from rehost.machine.probe import MachineState, probe
from rehost.machine.ssh import Machine, Unreachable, connect
from rehost.machine.terminal import command, known_hosts
from rehost.project.config import Gce, Host, Project
from rehost.release import decide
from rehost.run.errors import RehostError, UsageError

Progress = Callable[[str], None]
BOOT_SECONDS = 300.0


class Site:
    """One project's machine. Made by `site`, which closes what it opened."""

    def __init__(
        self,
        project: Project,
        client: Client | None,
        cloud: Desired | None,
        arriving: asyncio.Task[visit.Visit | None] | None = None,
    ) -> None:
        self.project = project
        self.client = client
        self.cloud = cloud
        self.observed: Observed | None = None
        self.reach: Reach | None = None
        self.machine: Machine | None = None
        self.state: MachineState | None = None
        self._arriving = arriving
        self.released = 0  # number of the release that this run made
        self._asking: asyncio.Task[answer.Answer] | None = None

    # What is there

    async def look(self) -> None:
        """Reads cloud and machine at the same time, over the remembered address where there is one.

        Afterwards `state` is None when the machine is not there, does not run or does not answer yet.
        """
        if self.cloud is None or self.client is None:
            await self.connect()
            await self.probe()
            return
        guess = asyncio.create_task(self._guess())
        good = False
        try:
            self.observed = await observe(self.client, self.cloud)
            found = self.observed.instance
            remembered = visit.recall(self.project.directory)
            if remembered is not None and found is not None:
                good = (remembered.instance_id, remembered.address) == (found.id, found.external)
                good = good and await guess is not None
        finally:
            # An address that leads nowhere any more may keep silent for long: it is not waited for.
            if not guess.done():
                guess.cancel()
            await asyncio.gather(guess, return_exceptions=True)
        if not good:
            await self.disconnect()
            self.reach = None
            if found is not None and found.status == "RUNNING":
                await self._meet()

    @property
    def places(self) -> str:
        """What `look` reads, for people."""
        return "the machine" if self.client is None else "the cloud and the machine"

    async def find_out(self, progress: Progress = lambda _text: None) -> None:
        """Where the machine is: as remembered, else as the cloud says. Connects to nothing."""
        if self.client is None or self.cloud is None:
            self.reach = self._standing()
        else:
            last = visit.recall(self.project.directory)
            if last is not None and last.app == self.project.app:
                self.reach = Reach(last.address, last.user, last.host_keys, last.instance_id)
            else:
                self.reach = await ask_reach(self.client, self.cloud, progress)

    async def reach_only(self) -> None:
        """Reads the machine and not the cloud, which is asked only when the remembered address leads nowhere."""
        if self.client is None or await self._guess() is None:
            await self.connect()
            await self.probe()

    async def _guess(self) -> Machine | None:
        """The machine where it was last time, while the cloud is asked whether it is still there."""
        if self._arriving is None:
            self._arriving = asyncio.create_task(visit.visit(self.project.directory))
        task, self._arriving = self._arriving, None
        found = await task
        if found is None:
            return None
        where = found.where
        if where.app != self.project.app:
            # rehost.toml has another name now: that machine is the other app's.
            await found.machine.close()
            return None
        self.machine, self.state = found.machine, found.state
        self.reach = Reach(where.address, where.user, where.host_keys, where.instance_id)
        if found.state is not None and where != self._place(self.reach):
            # rehost.toml has changed since: the machine was asked about something else.
            visit.remember(self.project.directory, self._place(self.reach))
            await self.probe()
        return self.machine

    def _place(self, reach: Reach) -> visit.Remembered:
        run = self.project.run
        return visit.Remembered(
            self.project.app,
            reach.address,
            reach.user,
            reach.host_keys,
            reach.instance_id,
            run.health,
            self.project.health_host,
        )

    async def _meet(self) -> None:
        """Connects to a running machine that was not remembered. One that does not let us in yet is not an error."""
        if self.client is None or self.cloud is None:
            return
        try:
            self.reach = await ask_reach(self.client, self.cloud, deadline=0.0)
            await self._open(self.reach)
            await self.probe()
        except RehostError as waiting:
            await self.disconnect()
            if not waiting.retryable:
                raise

    async def connect(self, progress: Progress = lambda _text: None) -> Machine:
        """An open connection, waiting for a machine that is still booting. Raises RehostError.

        The cloud is asked where the machine is, unless a visit to where it was is under way (`visit.start`).
        """
        if self.machine is not None:
            return self.machine
        if self._arriving is not None and (there := await self._guess()) is not None:
            return there
        end = time.monotonic() + BOOT_SECONDS
        while True:
            try:
                if self.client is not None and self.cloud is not None:
                    self.reach = await ask_reach(self.client, self.cloud, progress)
                else:
                    self.reach = self._standing()
                return await self._open(self.reach)
            except Unreachable as closed:
                # A machine that stands does not come up while we wait.
                if not closed.retryable or self.client is None or time.monotonic() > end:
                    raise
                progress(f"waiting for ssh: {closed.what}")
                await asyncio.sleep(0.5)

    def _standing(self) -> Reach:
        machine = self.project.machine
        if not isinstance(machine, Host):
            raise TypeError("a machine of a cloud is reached through its client")
        return host.reach(host.HostDesired(machine.address, machine.user or "", machine.port))

    async def _open(self, reach: Reach) -> Machine:
        ours = isinstance(self.project.machine, Gce)
        self.machine = await connect(
            reach.address,
            user=reach.user,
            host_keys=reach.host_keys,
            key_file=keys.own_key().file if ours else None,
            # 22 is what ssh takes by itself, unless the user's own configuration says otherwise for this host.
            port=reach.port if reach.port != 22 else 0,
            label=f"{self.project.app} ({reach.address})",
        )
        if reach.instance_id:
            visit.remember(self.project.directory, self._place(reach))
        return self.machine

    async def probe(self) -> MachineState:
        """Reads the machine's state anew."""
        machine = await self.connect()
        run = self.project.run
        self.state = await probe(machine, self.project.app, run.health, self.project.health_host)
        return self.state

    async def disconnect(self) -> None:
        if self.machine is not None:
            machine, self.machine, self.state = self.machine, None, None
            with contextlib.suppress(OSError):
                await machine.close()

    async def leave(self) -> None:
        """Closes what was opened, a visit that nobody waited for too."""
        if self._arriving is not None:
            task, self._arriving = self._arriving, None
            task.cancel()
            (found,) = await asyncio.gather(task, return_exceptions=True)
            if isinstance(found, visit.Visit):
                found.machine.abort()
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
        await self.disconnect()

    # What the world sees

    def ask(self) -> None:
        """Asks the app from this computer, while something else is under way; `heard` tells what it said."""
        self._asking = asyncio.create_task(self._answer())

    async def heard(self) -> answer.Answer:
        """What the app says to this computer: to the last `ask`, once, or else now."""
        asking, self._asking = self._asking, None
        return await (asking or self._answer())

    async def _answer(self) -> answer.Answer:
        return await answer.ask(self.address, "/", self.project.domain.name or "")

    @property
    def address(self) -> str:
        """The machine's public address, "" while it has none."""
        if self.client is None and self.machine is not None:
            # What rehost.toml names may be a Host of the ssh configuration, which the world does not know.
            return self.machine.peer
        if self.reach is not None:
            return self.reach.address
        instance = self.observed.instance if self.observed else None
        return instance.external if instance else ""

    @property
    def label(self) -> str:
        """The machine's name for messages."""
        return self.machine.label if self.machine is not None else self.project.app

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names that the proxy answers for; none means any."""
        name = self.project.domain.name
        # The proxy compares names without their port.
        asked = self.project.health_host.partition(":")[0]
        if not name:
            return ()
        # Its own machine answers for the app under its address too; on a shared one that is nobody's to take.
        address = (self.address,) if isinstance(self.project.machine, Gce) else ()
        return tuple(dict.fromkeys((name, asked, *address)))

    @property
    def serving(self) -> str:
        """What still serves, for errors."""
        if self.state is None or not self.state.current:
            return "nothing yet"
        if decide.serving(self.state, self.project.app):
            return f"release {self.state.current}"
        return f"nothing: release {self.state.current} does not run"


def cloud_desired(project: Project) -> Desired | None:
    """What the machine in the cloud should be; None for a machine that stands."""
    machine = project.machine
    if not isinstance(machine, Gce):
        return None
    return Desired(
        app=project.app,
        project=project_of(machine.project),
        zone=machine.zone,
        ssh_user=keys.login_name(),
        ssh_public_key=keys.own_key().public,
        startup_script=startup_script(),
        machine_type=machine.type,
        disk_gb=machine.disk_gb,
        disk_type=machine.disk_type,
        image=machine.image,
        ssh_sources=machine.ssh_sources,
    )


@contextlib.asynccontextmanager
async def site(
    project: Project, arriving: asyncio.Task[visit.Visit | None] | None = None
) -> AsyncIterator[Site]:
    """The project's site, its connections closed at the end. arriving: a visit under way (`visit.start`)."""
    wanted = cloud_desired(project)
    async with contextlib.AsyncExitStack() as stack:
        client = None
        if wanted is not None:
            client = await stack.enter_async_context(Client(wanted.project, Credentials(find())))
        here = Site(project, client, wanted, arriving)
        stack.push_async_callback(here.leave)
        yield here


async def hand_over(session: Session, here: Site, words: Sequence[str], *, terminal: bool) -> int:
    """Gives the person's terminal to the system's ssh until it ends; returns its exit code."""
    await here.find_out(session.progress)
    reach = here.reach
    if reach is None:
        raise RehostError("the machine has no address yet", cure="`rehost up` makes one.")
    hosts_file = None
    if reach.host_keys:
        hosts_file = here.project.directory / ".rehost" / "cache" / "known_hosts"
        hosts_file.parent.mkdir(parents=True, exist_ok=True)
        hosts_file.write_text(known_hosts(reach))
    key_file = keys.own_key().file if here.client is not None else None
    line = command(reach, key_file=key_file, hosts_file=hosts_file, terminal=terminal, remote=words)
    session.display.pause()
    try:
        process = await asyncio.create_subprocess_exec(*line)
    except FileNotFoundError:
        raise UsageError(
            "there is no ssh command here", cure="Install OpenSSH's client (openssh-client)."
        ) from None
    return await process.wait()
