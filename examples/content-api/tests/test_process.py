"""The process as a platform sees it: signals, ports, proxy headers, browsers, logs."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import httpx

from app.main import create_app
from app.services import Services
from app.settings import Settings
from processes import DEADLINE, SECRET_KEY, Api, Mongo, StartApi, accepts, environment, eventually, free_port

REQUIRED = {"mongodb_url": "mongodb://127.0.0.1:1", "secret_key": SECRET_KEY}


def test_sigterm_finishes_what_is_in_flight(start_api: StartApi, mongo: Mongo, database_name: str) -> None:
    api = start_api(MONGODB_URL=mongo.url, DATABASE_NAME=database_name)
    eventually("healthy", api.healthy)
    body = json.dumps({"title": "In flight", "body": "x" * 1000}).encode()
    head = (
        f"POST /posts HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Authorization: {api.user.http.headers['Authorization']}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    with socket.create_connection(("127.0.0.1", api.port), DEADLINE) as sock:
        # A request counts as in flight once its head was read: "continue" says that it was.
        sock.sendall(head.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n") + body[:10])
        assert sock.recv(1000).startswith(b"HTTP/1.1 100 ")
        api.signal(signal.SIGTERM)
        eventually("new connections are refused", lambda: not accepts(api.port))
        sock.sendall(body[10:])
        assert sock.recv(1000).startswith(b"HTTP/1.1 201 ")
    assert api.wait() == 0
    assert "Application shutdown complete" in api.output()
    assert "Traceback" not in api.output()
    again = start_api(MONGODB_URL=mongo.url, DATABASE_NAME=database_name)
    assert again.http.get("/posts/in-flight").status_code == 200


def test_sigterm_while_the_database_is_gone(start_api: StartApi) -> None:
    api = start_api(MONGODB_URL=f"mongodb://127.0.0.1:{free_port()}")
    assert api.stop() == 0
    assert "Traceback" not in api.output()


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        env = environment(
            SECRET_KEY=SECRET_KEY, MONGODB_URL="mongodb://127.0.0.1:1", PORT=str(taken.getsockname()[1])
        )
        done = subprocess.run(
            [sys.executable, "-m", "app"], env=env, cwd=tmp_path, capture_output=True, text=True, check=False
        )
    assert done.returncode != 0
    assert "address already in use" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_forwarded_headers_are_believed_from_the_proxy_alone(start_api: StartApi) -> None:
    forwarded = {"X-Forwarded-For": "203.0.113.9"}
    url = f"mongodb://127.0.0.1:{free_port()}"
    behind = start_api(MONGODB_URL=url, FORWARDED_ALLOW_IPS="10.0.0.0/8,127.0.0.0/8")
    behind.http.get("/", headers=forwarded)
    eventually("the request is logged", lambda: "GET / 200" in behind.output())
    assert "203.0.113.9" in behind.output()
    direct = start_api(MONGODB_URL=url, FORWARDED_ALLOW_IPS="10.0.0.0/8")
    direct.http.get("/", headers=forwarded)
    eventually("the request is logged", lambda: "GET / 200" in direct.output())
    assert "203.0.113.9" not in direct.output()


def test_browsers_of_the_allowed_origins_may_call(shared_api: Api) -> None:
    for origin, allowed in (
        ("https://www.example.com", True),
        ("https://admin.example.com", True),
        ("https://www.example.com.evil.example", False),
    ):
        answer = shared_api.http.get("/", headers={"Origin": origin})
        assert answer.headers.get("access-control-allow-origin") == (origin if allowed else None)


def answers(settings: Settings, paths: Sequence[str], headers: dict[str, str]) -> list[httpx.Response]:
    """Ask the application inside this process, without a lifespan: for what needs no database."""

    async def ask() -> list[httpx.Response]:
        services = Services.of(settings)
        transport = httpx.ASGITransport(create_app(services))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            got = [await http.get(path, headers=headers) for path in paths]
        await services.database.close()
        return got

    return asyncio.run(ask())


def test_cors_can_be_switched_off() -> None:
    origin = "https://www.example.com"
    for enabled in (True, False):
        settings = Settings.model_validate(
            {**REQUIRED, "allowed_origins": origin, "enable_cors": enabled, "environment": "production"}
        )
        [answer] = answers(settings, ["/"], {"Origin": origin})
        assert answer.headers.get("access-control-allow-origin") == (origin if enabled else None)


def test_docs_only_when_asked_for(shared_api: Api) -> None:
    assert shared_api.http.get("/docs").status_code == 200
    assert shared_api.http.get("/openapi.json").json()["info"]["version"] == "0.1.0"
    quiet = answers(Settings.model_validate(REQUIRED), ["/docs", "/redoc", "/openapi.json"], {})
    assert [answer.status_code for answer in quiet] == [404] * 3


def test_secrets_are_never_logged(start_api: StartApi) -> None:
    """At the most talkative level, with clients that fail, and with the secrets asked for in the address."""
    api = start_api(
        MONGODB_URL=f"mongodb://user:Zx9%40mongosentinel@127.0.0.1:{free_port()}/?timeoutMS=200&maxPoolSize=Zx9sentinel",
        REDIS_URL=f"redis://:Zx9redissentinel@127.0.0.1:{free_port()}",
        LOG_LEVEL="debug",
    )
    api.http.get("/health")
    api.http.get("/posts")
    api.http.get("/posts/Zx9redissentinel")
    api.http.get("/posts", params={"token": SECRET_KEY})
    assert api.stop() == 0
    output = api.output()
    assert "database lost" in output
    assert "cache lost" in output
    assert "sentinel" not in output
    assert SECRET_KEY not in output
    assert "/posts/***" in output
    assert all(json.loads(line)["level"] for line in output.splitlines()), "one JSON object a line"
