"""Real processes for the tests: the API, a database, a cache; each on a free port, each stopped at the end.

The database is nx-27017, which speaks MongoDB's wire protocol over SQLite. **It is not MongoDB**: it has no
authentication, it cannot make a compound index with `_id`, and what it accepts MongoDB might refuse. What
passes here shows that the API and the driver work against a server; the production database is MongoDB.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx

ROOT = Path(__file__).parent.parent
DEADLINE = 20.0  # seconds; generous, because nothing here waits for it unless something is broken
SECRET_KEY = "0123456789abcdef0123456789abcdef-key"


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def eventually(what: str, check: Callable[[], bool]) -> None:
    """Poll until the check holds."""
    deadline = time.monotonic() + DEADLINE
    while not check():
        assert time.monotonic() < deadline, f"not within {DEADLINE:g} s: {what}"
        time.sleep(0.02)


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


class Process:
    """A program that listens on a port and writes its output into a file."""

    def __init__(self, command: list[str], port: int, log: Path, env: dict[str, str] | None = None) -> None:
        self.port = port
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env, cwd=log.parent
            )
        try:
            eventually(f"{command[0]} listens", self._up)
        except BaseException:
            self.stop()
            raise

    def _up(self) -> bool:
        assert self._process.poll() is None, self.output()
        return accepts(self.port)

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def wait(self) -> int:
        return self._process.wait(DEADLINE)

    def stop(self) -> int:
        """End the process; -9 when it had to be killed."""
        self._process.terminate()
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


class Mongo(Process):
    """nx-27017, a stand-in that is not MongoDB."""

    def __init__(self, directory: Path, port: int | None = None) -> None:
        port = port or free_port()
        command = [str(Path(sys.executable).parent / "nx-27017"), "--host", "127.0.0.1", "-p", str(port)]
        command += ["--data-dir", str(directory / "data")]
        command += ["--pid-file", str(directory / "nx.pid"), "--log-file", str(directory / "nx.log")]
        self.url = f"mongodb://127.0.0.1:{port}"
        super().__init__(command, port, directory / "nx.out")


class Cache(Process):
    """redis-server, without persistence."""

    def __init__(self, directory: Path, port: int | None = None) -> None:
        port = port or free_port()
        program = shutil.which("redis-server")
        assert program is not None
        self.url = f"redis://127.0.0.1:{port}/0"
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        super().__init__(command, port, directory / "redis.out")


def environment(**variables: str) -> dict[str, str]:
    """What a container would be given: nothing of ours but the path, then the variables."""
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **variables}


class Api(Process):
    """`python -m app`, as the image starts it."""

    def __init__(self, directory: Path, **variables: str) -> None:
        port = free_port()
        env = environment(SECRET_KEY=SECRET_KEY, PORT=str(port), **variables)
        directory.mkdir(parents=True, exist_ok=True)
        super().__init__([sys.executable, "-m", "app"], port, directory / "api.out", env)
        # The environment's proxies are not for our own loopback.
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=DEADLINE)

    def healthy(self) -> bool:
        return self.http.get("/health").status_code == 200

    def stop(self) -> int:
        if hasattr(self, "http"):
            self.http.close()
        return super().stop()


StartApi = Callable[..., Api]
