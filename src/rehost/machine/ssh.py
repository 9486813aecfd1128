"""One verified ssh connection to one machine; scripts go in on standard input, never in argv."""

from __future__ import annotations

import asyncio
import shlex
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

from rehost.machine.lean_asyncssh import AtOnce, asyncssh
from rehost.run.errors import RehostError

# The script arrives on standard input, so that it may hold secrets; root is taken only where it is needed.
AS_ROOT: Final = 'if [ "$(id -u)" = 0 ]; then exec {command}; else exec sudo -n -- {command}; fi'
KEEPALIVE_SECONDS: Final = 10
CONNECT_SECONDS: Final = 10


class MachineError(RehostError):
    """The machine could not be reached, or did not do what was asked."""


class Unreachable(MachineError):
    """No ssh connection yet. `retryable` when waiting may help (a machine that is still booting)."""


class ScriptFailed(MachineError):
    """A script on the machine ended with a status other than 0."""

    def __init__(self, what: str, *, status: int, where: str, detail: str, cure: str) -> None:
        super().__init__(what, where=where, detail=detail, cure=cure)
        self.status = status


class NotOpened(Exception):
    """The machine did not open a connection to elsewhere: its own words. forbidden: its sshd never does."""

    def __init__(self, words: str, *, forbidden: bool = False) -> None:
        super().__init__(words)
        self.words = words
        self.forbidden = forbidden


class Output(NamedTuple):
    """What a script wrote. Text is decoded as UTF-8; bytes that are not become U+FFFD."""

    stdout: str
    stderr: str
    status: int


class Channel:
    """A script that runs on the machine while both sides go on talking. Bytes both ways."""

    def __init__(self, process: asyncssh.SSHClientProcess[bytes]) -> None:
        self._process = process
        # Read all along: a script that fills the pipe of its errors would hang.
        self._errors = asyncio.create_task(process.stderr.read())

    async def read(self, most: int) -> bytes:
        """Up to `most` bytes of what the script wrote, b"" at its end."""
        try:
            return await self._process.stdout.read(most)
        except (asyncssh.Error, OSError) as broken:
            raise ConnectionError(str(broken)) from broken

    async def write(self, data: bytes) -> None:
        """To the script; waits while nobody reads it. Raises ConnectionError once nobody will."""
        try:
            self._process.stdin.write(data)
            await self._process.stdin.drain()
        except (asyncssh.Error, OSError) as broken:
            raise ConnectionError(str(broken)) from broken

    async def eof(self) -> None:
        """Ends the script's input; its output can still be read."""
        self._process.stdin.write_eof()

    async def finish(self) -> tuple[int, bytes]:
        """Exit status (-1 when a signal or a broken connection ended it) and standard error."""
        try:
            errors = await self._errors
        except (asyncssh.Error, OSError):
            errors = b""
        await self._process.wait_closed()
        status = self._process.exit_status
        return (status if status is not None else -1), errors

    async def close(self) -> None:
        """Hangs up, whatever is under way."""
        self._process.close()
        await self._process.wait_closed()
        await asyncio.gather(self._errors, return_exceptions=True)


class Tcp:
    """A TCP connection from the machine to elsewhere. Raises ConnectionError when it breaks."""

    def __init__(self, reader: asyncssh.SSHReader[bytes], writer: asyncssh.SSHWriter[bytes]) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self, most: int) -> bytes:
        """Up to `most` bytes, b"" at the end."""
        try:
            return await self._reader.read(most)
        except (asyncssh.Error, OSError) as broken:
            raise ConnectionError(str(broken)) from broken

    async def write(self, data: bytes) -> None:
        try:
            self._writer.write(data)
            await self._writer.drain()
        except (asyncssh.Error, OSError) as broken:
            raise ConnectionError(str(broken)) from broken

    def close(self) -> None:
        self._writer.close()


class Machine:
    """An open connection. `label` names the machine in messages; `execs` counts the scripts that were run."""

    def __init__(self, connection: asyncssh.SSHClientConnection, label: str) -> None:
        self._connection = connection
        self.label = label
        self.execs = 0
        self._spare: list[asyncio.Task[asyncssh.SSHClientProcess[bytes]]] = []
        self._begun: dict[str, asyncio.Task[asyncssh.SSHClientProcess[bytes]]] = {}

    @property
    def peer(self) -> str:
        """The address at the other end, as this computer's sockets know it; "" when there is none."""
        name = self._connection.get_extra_info("peername")
        return str(name[0]) if name else ""

    def ahead(self, scripts: int = 1) -> None:
        """Opens the sessions of so many scripts that are sure to come, while something else is under way.

        A session takes two round trips before it reads anything.
        """
        self._spare += [asyncio.create_task(self._shell()) for _ in range(scripts)]

    async def _shell(self, script: str = "") -> asyncssh.SSHClientProcess[bytes]:
        """A shell of root's that runs the script, or waits for one."""
        command = AS_ROOT.format(command="sh -s")
        if script:
            # The user's own shell has it in argv; sudo, which writes down what it runs, has not.
            command = f"printf %s {shlex.quote(script)} | {command}"
        return await self._connection.create_process(command, encoding=None)

    async def run(
        self, script: str, *, what: str = "a script", check: bool = True, public: bool = False
    ) -> Output:
        """Runs a POSIX sh script as root. Raises ScriptFailed for a status other than 0 when `check`.

        public: it holds no secret and may stand in argv. That spares the round trip in which a shell opens its ears.
        """
        lines: list[str] = []
        return await self._run(script, lines.append, what=what, check=check, public=public, collected=lines)

    async def stream(
        self,
        script: str,
        on_line: Callable[[str], None],
        *,
        what: str,
        check: bool = True,
        public: bool = False,
    ) -> Output:
        """As `run`, handing over each line of standard output as it comes; the output's stdout stays empty."""
        return await self._run(script, on_line, what=what, check=check, public=public, collected=None)

    async def _run(
        self,
        script: str,
        on_line: Callable[[str], None],
        *,
        what: str,
        check: bool,
        collected: list[str] | None,
        public: bool = False,
    ) -> Output:
        async with self._process(script if public else "") as process:
            if not public:
                process.stdin.write(script.encode())
            process.stdin.write_eof()

            async def lines() -> None:
                line = b""
                # A line that is longer than the window comes in parts; the last part before the end may be empty.
                async for part in process.stdout:
                    line += part
                    if line.endswith(b"\n"):
                        on_line(line[:-1].decode(errors="replace"))
                        line = b""
                if line:
                    on_line(line.decode(errors="replace"))

            # Both pipes are read at once: a script that fills the other one would hang.
            _, stderr = await asyncio.gather(lines(), process.stderr.read())
            done = await process.wait()
        error = stderr.decode(errors="replace")
        status = done.exit_status if done.exit_status is not None else -1
        if check and status != 0:
            raise self._failed(what, status, error)
        return Output("\n".join(collected) if collected is not None else "", error, status)

    async def open(self, script: str, *, root: bool = True) -> Channel:
        """Runs a script whose standard input is the caller's. It stands in argv: no secrets in it.

        root: as root; else as the ssh user is, where there is no sudo.
        """
        self.execs += 1
        begun = self._begun.pop(script, None) if root else None
        try:
            process = await (begun or self._start(script, root=root))
            if begun and process.exit_status is not None:
                # It has ended before anybody spoke with it: what was in its way may be gone.
                process = await self._start(script, root=root)
            return Channel(process)
        except (asyncssh.Error, OSError) as broken:
            raise self._broken(broken) from broken

    def begin(self, script: str) -> None:
        """Starts a script as root that is about to be opened, while something else is under way."""
        self._begun[script] = asyncio.create_task(self._start(script, root=True))

    async def _start(self, script: str, *, root: bool) -> asyncssh.SSHClientProcess[bytes]:
        command = f"sh -c {shlex.quote(script)}"
        if root:
            command = AS_ROOT.format(command=command)
        return await self._connection.create_process(command, encoding=None)

    async def tcp(self, host: str, port: int) -> Tcp:
        """A connection that the machine itself opens, by its own resolver and address (RFC 4254, section 7.2).

        Raises NotOpened. It waits as long as the machine does, which is minutes where a firewall drops.
        """
        try:
            return Tcp(*await self._connection.open_connection(host, port, encoding=None))
        except asyncssh.ChannelOpenError as closed:
            forbidden = closed.code == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED
            raise NotOpened(closed.reason, forbidden=forbidden) from closed
        except (asyncssh.Error, OSError) as broken:
            raise self._broken(broken) from broken

    @asynccontextmanager
    async def _process(self, script: str) -> AsyncIterator[asyncssh.SSHClientProcess[bytes]]:
        self.execs += 1
        try:
            waiting = self._spare.pop(0) if self._spare and not script else self._shell(script)
            async with await waiting as process:
                yield process
        except (asyncssh.Error, OSError) as broken:
            raise self._broken(broken) from broken

    def _broken(self, fault: Exception) -> MachineError:
        return MachineError(
            f"the ssh connection broke: {fault}",
            where=self.label,
            cure="What was started on the machine goes on there; run the same command again to attach to it.",
            retryable=True,
        )

    def _failed(self, what: str, status: int, stderr: str) -> RehostError:
        tail = "\n".join(stderr.strip().splitlines()[-15:])
        if "sudo:" in stderr and ("password is required" in stderr or "not allowed" in stderr):
            return MachineError(
                "the ssh user may not become root without a password",
                where=self.label,
                detail=tail,
                cure="Give the user passwordless sudo (a line `USER ALL=(ALL) NOPASSWD: ALL` in /etc/sudoers.d/).",
            )
        if "No space left on device" in stderr:
            return MachineError(
                f"{what} failed: the machine's disk is full",
                where=self.label,
                detail=tail,
                cure="Raise `disk` under [machine] in rehost.toml, or remove on the machine what is not needed.",
            )
        return ScriptFailed(
            f"{what} failed on the machine (status {status})",
            status=status,
            where=self.label,
            detail=tail,
            cure="Run the same command again; with --verbose it shows each line the machine wrote.",
        )

    def abort(self) -> None:
        """Hangs up at once."""
        self._drop()
        self._connection.abort()

    def _drop(self) -> list[asyncio.Task[asyncssh.SSHClientProcess[bytes]]]:
        """Those that nobody came for."""
        unused = [*self._spare, *self._begun.values()]
        for each in unused:
            each.cancel()
        return unused

    async def close(self) -> None:
        await asyncio.gather(*self._drop(), return_exceptions=True)
        self._connection.close()
        await self._connection.wait_closed()


async def connect(
    address: str,
    *,
    user: str,
    host_keys: Sequence[str] = (),
    key_file: Path | None = None,
    port: int = 0,
    label: str = "",
) -> Machine:
    """Opens the connection.

    host_keys: lines "TYPE BASE64"; when given, the machine must show one of them. When empty, the user's
    known_hosts file decides. The user's ssh configuration and agent are honoured.
    Raises Unreachable; its `retryable` is False for what waiting will not mend (a wrong host key, for one).
    """
    label = label or address
    options: dict[str, object] = {}
    if key_file is not None:
        options["client_keys"] = [str(key_file)]
        # The keys of an agent would be offered first, and use up the tries that sshd grants (MaxAuthTries).
        options["agent_path"] = None
        options["client_factory"] = AtOnce
    if port:
        options["port"] = port
    if user:
        options["username"] = user
    try:
        if host_keys:
            options["known_hosts"] = ([asyncssh.import_public_key(line) for line in host_keys], [], [])
        connection = await asyncssh.connect(
            address,
            **options,
            connect_timeout=CONNECT_SECONDS,
            login_timeout=2 * CONNECT_SECONDS,
            keepalive_interval=KEEPALIVE_SECONDS,
            keepalive_count_max=3,
        )
    except (asyncssh.Error, OSError, ValueError) as fault:
        raise _unreachable(fault, address, user, label, published=bool(host_keys)) from fault
    return Machine(connection, label)


def _unreachable(fault: Exception, address: str, user: str, label: str, *, published: bool) -> Unreachable:
    if isinstance(fault, asyncssh.HostKeyNotVerifiable):
        if published:
            return Unreachable(
                "the machine's host key is none of those that it published through the cloud",
                where=label,
                cure="Somebody may stand in between: do not connect. If you changed the key on the machine "
                "yourself, `rehost down` and `rehost up` make a new machine.",
            )
        return Unreachable(
            "the machine's host key is not in your known_hosts file, or another one is",
            where=label,
            cure=f"The first time, log in with `ssh {address}` and compare the key that it shows. If the machine "
            f"was made anew, `ssh-keygen -R {address}` forgets the old key; if not, somebody may stand in "
            "between: do not connect.",
        )
    if isinstance(fault, asyncssh.PermissionDenied):
        return Unreachable(
            f"the machine does not accept the ssh key of user {user or 'of the ssh configuration'}",
            where=label,
            cure="`rehost up` puts your key in place; on a machine of your own, add it to authorized_keys.",
            retryable=True,
        )
    if isinstance(fault, ConnectionRefusedError):
        return Unreachable(
            "nothing answers on the ssh port", where=label, cure="Is sshd running there?", retryable=True
        )
    if isinstance(fault, socket.gaierror):
        return Unreachable(
            f"the name {address} has no address", where=label, cure="Check `address` in rehost.toml."
        )
    if isinstance(fault, (TimeoutError, asyncssh.ConnectionLost, ConnectionResetError, OSError)):
        return Unreachable(
            f"no ssh connection: {fault or 'no answer in time'}",
            where=label,
            cure="Is the machine running, and does its firewall let port 22 in from here?",
            retryable=True,
        )
    return Unreachable(f"no ssh connection: {fault}", where=label, cure="Try `ssh -v` to the same address.")
