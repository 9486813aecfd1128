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
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parent.parent
DEADLINE = 20.0  # seconds; generous, because nothing here waits for it unless something is broken
PASSWORD = "correct horse battery"
SECRET_KEY = "0123456789abcdef0123456789abcdef-key"


# Under `coverage run`, the API's processes are measured too.
MEASURED = (
    ["-m", "coverage", "run", f"--rcfile={ROOT / 'pyproject.toml'}", f"--data-file={ROOT / '.coverage'}"]
    if os.environ.get("COVERAGE_RUN")
    else []
)


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

    def kill(self) -> None:
        """End the process as a crash would."""
        self._process.kill()
        self._process.wait()

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


@dataclass(frozen=True)
class User:
    """A user, and a client that sends its access token."""

    handle: str
    refresh_token: str
    http: httpx.Client

    def write_post(self, title: str | None = None, **fields: object) -> dict[str, Any]:
        new = {"title": title or f"Post {uuid.uuid4().hex}", "body": "Text.", **fields}
        answer = self.http.post("/posts", json=new)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())


class Api(Process):
    """`python -m app`, as the image starts it."""

    def __init__(self, directory: Path, **variables: str) -> None:
        port = free_port()
        defaults = {"SECRET_KEY": SECRET_KEY, "DATA_DIRECTORY": str(directory / "data")}
        env = environment(**{**defaults, **variables}, PORT=str(port))
        directory.mkdir(parents=True, exist_ok=True)
        self.variables = {"MONGODB_URL": env["MONGODB_URL"], "SECRET_KEY": env["SECRET_KEY"]}
        if "DATABASE_NAME" in env:
            self.variables["DATABASE_NAME"] = env["DATABASE_NAME"]
        super().__init__([sys.executable, *MEASURED, "-m", "app"], port, directory / "api.out", env)
        self.data = Path(env["DATA_DIRECTORY"])
        self._clients: list[httpx.Client] = []
        self.http = self.client()
        self._user: User | None = None

    def client(self, **headers: str) -> httpx.Client:
        """A client of its own; closed when the API is stopped."""
        # The environment's proxies are not for our own loopback.
        client = httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}", trust_env=False, timeout=DEADLINE, headers=headers
        )
        self._clients.append(client)
        return client

    def sign_up(self, handle: str | None = None) -> User:
        """A new user, logged in."""
        handle = handle or f"u_{uuid.uuid4().hex[:20]}"
        new = {"handle": handle, "email": f"{handle}@example.com", "password": PASSWORD}
        self.http.post("/auth/register", json=new).raise_for_status()
        return self.log_in(handle)

    def log_in(self, handle: str, password: str = PASSWORD) -> User:
        answer = self.http.post("/auth/login", json={"handle": handle, "password": password})
        assert answer.status_code == 200, answer.text
        tokens = answer.json()
        return User(
            handle, tokens["refresh_token"], self.client(Authorization=f"Bearer {tokens['access_token']}")
        )

    @property
    def user(self) -> User:
        """One user for the tests that do not care who writes."""
        if self._user is None:
            self._user = self.sign_up()
        return self._user

    def healthy(self) -> bool:
        return self.http.get("/health").status_code == 200

    def stop(self) -> int:
        for client in getattr(self, "_clients", []):
            client.close()
        return super().stop()


StartApi = Callable[..., Api]
