"""A real ssh server on loopback, inside the test, whose commands run in the sh of this computer."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import os
import re
import signal
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ParamSpec

import asyncssh

from rehost.machine.ssh import Machine, Output, connect

P = ParamSpec("P")
USER = "ada"


@functools.cache
def key(name: str) -> asyncssh.SSHKey:
    """A key pair of that name, made once for all tests."""
    return asyncssh.generate_private_key("ssh-ed25519", comment=name)


def public(name: str) -> str:
    """ "TYPE BASE64"."""
    return " ".join(key(name).export_public_key().decode().split()[:2])


def key_file(directory: Path, name: str) -> Path:
    file = directory / name
    if not file.exists():
        key(name).write_private_key(file)
        file.chmod(0o600)
    return file


class Door(asyncssh.SSHServer):
    """Lets in who has the key "user"; notes each key that is offered."""

    offered: list[str]

    def __init__(self, offered: list[str]) -> None:
        self.offered = offered

    def begin_auth(self, username: str) -> bool:  # noqa: ARG002
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        offered = " ".join(key.export_public_key().decode().split()[:2])
        if offered not in self.offered:
            self.offered.append(offered)
        return username == USER and offered == public("user")


class Server:
    """`programs`: a directory whose programs come before the system's."""

    def __init__(self, programs: Path | None = None) -> None:
        self.offered: list[str] = []
        self.commands: list[str] = []
        self.connections: list[asyncssh.SSHServerConnection] = []
        self.port = 0
        self.running: set[asyncio.Task[Any]] = set()
        self._env = dict(os.environ)
        if programs is not None:
            self._env["PATH"] = f"{programs}:{self._env['PATH']}"

    async def serve(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        """One command."""
        self.commands.append(process.command or "")
        self.connections.append(process.get_extra_info("connection"))
        child = await asyncio.create_subprocess_exec(
            "sh",
            "-c",
            process.command or "",
            env=self._env,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        assert child.stdin and child.stdout and child.stderr
        here = asyncio.current_task()
        assert here is not None
        self.running.add(here)
        sending = asyncio.create_task(_copy(process.stdin, child.stdin))
        try:
            await asyncio.gather(_copy(child.stdout, process.stdout), _copy(child.stderr, process.stderr))
            status = await child.wait()
        finally:
            sending.cancel()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            await child.wait()
            await asyncio.gather(sending, return_exceptions=True)
            self.running.discard(here)
        if status >= 0:
            process.exit(status)
        else:
            process.exit_with_signal(str(-status), False, "", "")

    def cut(self) -> None:
        """Breaks every connection, as a lost line would."""
        for connection in self.connections:
            connection.abort()


async def until(true: Callable[[], object], what: str) -> None:
    """Polls it for at most 20 s."""
    for _ in range(2000):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"not within 20 s: {what}")


async def _copy(source: Any, target: Any) -> None:
    try:
        while data := await source.read(1 << 16):
            target.write(data)
            await target.drain()
        if isinstance(target, asyncio.StreamWriter):  # the end of a channel is told by its exit
            target.write_eof()
    except (OSError, asyncssh.Error):  # a side that is gone wants nothing more
        pass


@asynccontextmanager
async def serving(server: Server) -> AsyncIterator[Server]:
    """The server while it listens, on a port of its own choice."""
    listener = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_host_keys=[key("host")],
        server_factory=lambda: Door(server.offered),
        process_factory=server.serve,
        encoding=None,
    )
    server.port = listener.get_port()
    try:
        yield server
    finally:
        listener.close()
        for connection in server.connections:
            connection.abort()
        for command in list(server.running):
            command.cancel()
        await asyncio.gather(*server.running, return_exceptions=True)
        await listener.wait_closed()


class Moved(Machine):
    """A machine whose /var/lib/rehost is a directory of this computer."""

    home: Path

    def move(self, script: str) -> str:
        """The script for that directory, and so is the unit's script that travels packed in it."""

        def unpacked(found: re.Match[str]) -> str:
            inner = zlib.decompress(base64.b64decode(found[1]), wbits=31)
            packed = zlib.compress(inner.replace(b"/var/lib/rehost", bytes(self.home)), wbits=31)
            return f"\n{base64.b64encode(packed).decode()}\nREHOST_SCRIPT\n"

        moved = script.replace("/var/lib/rehost", str(self.home))
        return re.sub(r"\n([A-Za-z0-9+/=]+)\nREHOST_SCRIPT\n", unpacked, moved)

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
        moved = self.move(script)
        return await super()._run(moved, on_line, what=what, check=check, collected=collected, public=public)


@asynccontextmanager
async def machine(
    directory: Path, programs: Mapping[str, str] | None = None
) -> AsyncIterator[tuple[Moved, Server]]:
    """A connected machine that lives in `directory`. programs: sh bodies that stand in for the machine's own."""
    bin_ = directory / "bin"
    bin_.mkdir(exist_ok=True)
    # Root is what the machine's scripts are made for; the tests may run as anybody.
    for name, body in {"id": "echo 0", **(programs or {})}.items():
        (bin_ / name).write_text(f"#!/bin/sh\n{body}\n")
        (bin_ / name).chmod(0o755)
    async with serving(Server(bin_)) as server:
        opened = await connect(
            "127.0.0.1",
            user=USER,
            host_keys=[public("host")],
            key_file=key_file(directory, "user"),
            port=server.port,
            label="vm",
        )
        moved = Moved(opened._connection, "vm")
        moved.home = directory / "rehost"
        moved.home.mkdir(exist_ok=True)
        try:
            yield moved, server
        finally:
            await moved.close()


def asynced(test: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    """Runs an asynchronous test in a loop of its own, for a minute at most."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def main() -> None:
            await asyncio.wait_for(test(*args, **kwargs), 60)

        asyncio.run(main())

    return run
