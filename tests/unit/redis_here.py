"""Real redis-servers on this computer, and a machine that reaches them: what moves of Redis are tested with."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from rehost.machine.ssh import Machine, NotOpened, Output
from rehost.run.secret import Secret
from rehost.source import reach
from rehost.source.move_redis import Redis
from rehost.source.reach_pipe import Connection
from rehost.source.reach_url import Database, databases
from rehost.source.resp import Answers, Command, Reply, Wrong, encode

PASSWORD = "p@ss 'word'"
PROGRAM = shutil.which("redis-server")


class Server:
    """One server; `say` is a plain client of the tests' own: a command's answer as redis-cli prints it."""

    def __init__(self, directory: Path, *options: str, program: str = PROGRAM or "", port: int = 0) -> None:
        self.directory = directory
        self._words = [program, "--save", "", "--dir", str(directory), "--requirepass", PASSWORD, *options]
        self.port = port or _free_port()
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [*self._words, "--port", str(self.port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        end = time.monotonic() + 20
        while self.say("PING") != "PONG":
            assert time.monotonic() < end and self._process.poll() is None, "redis-server does not answer"
            time.sleep(0.01)

    def say(self, *words: str | bytes, database: int = 0) -> str:
        done = subprocess.run(
            ["redis-cli", "-p", str(self.port), "-n", str(database), *words],
            env={**os.environ, "REDISCLI_AUTH": PASSWORD}, capture_output=True, check=False,
        )  # fmt: skip
        return done.stdout.decode(errors="backslashreplace").strip()

    def fill(self, *commands: Command, database: int = 0) -> list[Reply]:
        """Commands with any bytes in them, which must not fail, and their answers."""
        answers, replies = Answers(), list[Reply]()
        with socket.create_connection(("127.0.0.1", self.port)) as line:
            whole: list[Command] = [("AUTH", PASSWORD), ("SELECT", database), *commands]
            line.sendall(b"".join(map(encode, whole)))
            while len(replies) < len(commands) + 2:
                replies += answers.feed(line.recv(1 << 16))
        assert not [reply for reply in replies if isinstance(reply, Wrong)], replies
        return replies[2:]

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def url(self, host: str, database: int = 0) -> Database:
        (found,) = databases({"URL": Secret(f"redis://:p%40ss%20'word'@{host}:{self.port}/{database}")})
        return found


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@contextlib.contextmanager
def server(directory: Path, *options: str, **more: Any) -> Iterator[Server]:
    """Skips, by name, where there is no redis-server; CI must have it."""
    if PROGRAM is None:
        reason = "redis-server is not installed (Debian: apt-get install redis-server)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    directory.mkdir(exist_ok=True)
    one = Server(directory, *options, **more)
    try:
        yield one
    finally:
        one.kill()


class Line:
    """A TCP connection of this computer, as `Machine.tcp` gives one. spoil: what it makes of bytes that come in."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, spoil: Callable[[bytes], bytes]
    ) -> None:
        self._reader, self._writer, self._spoil = reader, writer, spoil

    async def read(self, most: int) -> bytes:
        return self._spoil(await self._reader.read(most))

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    def close(self) -> None:
        self._writer.close()


class Here:
    """A machine that is this computer, whatever host is named; `docker` is the real redis-cli.

    inspected: Docker's word on the service's container. spoil: see Line, for the connections to one port.
    """

    label = "machine"

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.spoil: dict[int, Callable[[bytes], bytes]] = {}
        self.dialled = 0
        (directory / "secret").write_text(PASSWORD)
        docker = directory / "docker"
        docker.write_text(
            '#!/bin/sh\nif [ "$1" = container ]; then exec cat "${0%/*}/inspected"; fi\nshift 4\nexec "$@"\n'
        )
        docker.chmod(0o755)
        self.inspect()

    def inspect(self, *, memory: int = 0, running: bool = True, mounts: tuple[Any, ...] = ()) -> None:
        networks = {"rehost-app": {"IPAddress": "172.18.0.2"}}
        told = {
            "State": {"Running": running},
            "HostConfig": {"Memory": memory},
            "Mounts": mounts,
            "NetworkSettings": {"Networks": networks},
        }
        (self._directory / "inspected").write_text(json.dumps([told]))

    async def tcp(self, _host: str, port: int) -> Connection:
        self.dialled += 1
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            raise NotOpened("Connection refused") from None
        return Line(reader, writer, self.spoil.get(port, lambda data: data))

    async def run(self, script: str, *, what: str = "", check: bool = True) -> Output:  # noqa: ARG002
        done = subprocess.run(  # noqa: ASYNC221
            ["sh", "-s"], input=script.encode(), env=self.environ, capture_output=True, check=check
        )
        return Output(done.stdout.decode(), done.stderr.decode(), done.returncode)

    @property
    def environ(self) -> Mapping[str, str]:
        return {"PATH": f"{self._directory}:{os.environ['PATH']}", "secret": str(self._directory / "secret")}

    def unit(self, body: str) -> subprocess.Popen[bytes]:
        """A swap or an undo, as the unit on the machine runs it."""
        return subprocess.Popen(
            ["sh", "-uc", f"one() (\n{body}\n)\none"],
            env=dict(self.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def turn(self, body: str) -> tuple[int, str]:
        ran = self.unit(body)
        out, _ = ran.communicate(timeout=60)
        return ran.returncode, out.decode()

    def mover(
        self, origin: Server, target: Server, *, rehearse: bool = False, database: int = 0, number: int = 0
    ) -> Redis:
        machine = cast(Machine, self)
        return Redis(
            reach.of_machine(machine, "203.0.113.9"),
            machine,
            origin.url("203.0.113.5", database),
            target.url("redis", number),
            "app.redis",
            "redis",
            rehearse,
        )
