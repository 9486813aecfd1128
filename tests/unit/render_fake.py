"""Render's API as far as the tests need it, on loopback: paged lists, values in clear, rate headers, errors.

Answers are in the forms of Render's OpenAPI document. The pages are cut by `limit` (20 without) and `cursor`; the
cursor of an item is opaque. Environment groups come bare, as documented; a test may wrap them.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

KEY = "rnd_hunter2hunter2hunter2"
Item = dict[str, Any]


@dataclass
class FakeRender:
    """What stands at Render. failures: (status, body or bytes) for the next requests, the first first.

    slow: seconds that the next answers take.
    limit: requests that one window of `window` seconds takes, by `clock`. asked: every request's path and query.
    """

    services: list[Item] = field(default_factory=list)
    variables: dict[str, list[Item]] = field(default_factory=dict)
    files: dict[str, list[Item]] = field(default_factory=dict)
    domains: dict[str, list[Item]] = field(default_factory=dict)
    deploys: dict[str, list[Item]] = field(default_factory=dict)
    routes: dict[str, list[Item]] = field(default_factory=dict)
    headers: dict[str, list[Item]] = field(default_factory=dict)
    groups: list[Item] = field(default_factory=list)
    postgres: list[Item] = field(default_factory=list)
    key_value: list[Item] = field(default_factory=list)
    connections: dict[str, Item] = field(default_factory=dict)
    wrapped_groups: bool = False
    limit: int = 400
    window: float = 60.0
    clock: Callable[[], float] = time.monotonic
    failures: list[tuple[int, bytes]] = field(default_factory=list)
    slow: list[float] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    refused: int = 0
    most_in_a_window: int = 0
    _window_began: float = float("-inf")
    _used: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, target: str, authorization: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body for a GET."""
        with self._lock:
            self.asked.append(target)
            headers = self._rate()
            if headers is None:
                self.refused += 1
                rest = self._window_began + self.window - self.clock()
                again = {"Ratelimit-Limit": str(self.limit), "Ratelimit-Remaining": "0"}
                return (
                    429,
                    {**again, "Ratelimit-Reset": str(max(1, round(rest)))},
                    _error("rate limit exceeded"),
                )
            failure = self.failures.pop(0) if self.failures else None
        if failure is not None:
            return failure[0], headers, failure[1]
        if authorization != f"Bearer {KEY}":
            return 401, headers, _error("Unauthorized")
        parts = urlsplit(target)
        query = {key: found[-1] for key, found in parse_qs(parts.query).items()}
        found = self._find(parts.path.removeprefix("/v1/").split("/"), query)
        if found is None:
            return 404, headers, _error("not found: hunter2 is not here")
        return 200, headers, json.dumps(found).encode()

    def _rate(self) -> dict[str, str] | None:
        now = self.clock()
        if now >= self._window_began + self.window:
            self._window_began, self._used = now, 0
        if self._used >= self.limit:
            return None
        self._used += 1
        self.most_in_a_window = max(self.most_in_a_window, self._used)
        rest = self._window_began + self.window - now
        return {
            "Ratelimit-Limit": str(self.limit),
            "Ratelimit-Remaining": str(self.limit - self._used),
            "Ratelimit-Reset": str(max(1, -int(-rest // 1))),
        }

    def _find(self, path: list[str], query: dict[str, str]) -> object | None:
        match path:
            case ["services"]:
                found = [
                    each for each in self.services if query.get("ownerId", each["ownerId"]) == each["ownerId"]
                ]
                found = [each for each in found if query.get("name", each["name"]) == each["name"]]
                return _page(found, "service", query)
            case ["services", identity]:
                return _by_id(self.services, identity)
            case ["services", identity, kind] if _by_id(self.services, identity):
                lists = {
                    "env-vars": (self.variables, "envVar"),
                    "secret-files": (self.files, "secretFile"),
                    "custom-domains": (self.domains, "customDomain"),
                    "deploys": (self.deploys, "deploy"),
                    "routes": (self.routes, "route"),
                    "headers": (self.headers, "header"),
                }
                if kind not in lists:
                    return None
                held, noun = lists[kind]
                found = held.get(identity, [])
                if kind == "deploys" and "status" in query:
                    found = [each for each in found if each["status"] == query["status"]]
                return _page(found, noun, query)
            case ["env-groups"]:
                metas = [
                    {key: value for key, value in each.items() if key not in ("envVars", "secretFiles")}
                    for each in self.groups
                ]
                page = _page(metas, "envGroup", query)
                return page if self.wrapped_groups else [each["envGroup"] for each in page]
            case ["env-groups", identity]:
                return _by_id(self.groups, identity)
            case ["postgres"]:
                return _page(self.postgres, "postgres", query)
            case ["key-value"]:
                return _page(self.key_value, "keyValue", query)
            case ["postgres" | "key-value", identity, "connection-info"]:
                return self.connections.get(identity)
        return None


def _by_id(items: list[Item], identity: str) -> Item | None:
    return next((each for each in items if each["id"] == identity), None)


def _page(items: list[Item], noun: str, query: dict[str, str]) -> list[Item]:
    start = int(query["cursor"].removeprefix("c-")[::-1]) if "cursor" in query else 0
    limit = min(int(query.get("limit", "20")), 100)
    return [
        {noun: each, "cursor": f"c-{str(number + 1)[::-1]}"}
        for number, each in list(enumerate(items))[start : start + limit]
    ]


def _error(message: str) -> bytes:
    return json.dumps({"id": "req-1", "message": message}).encode()


def web(number: int = 0, **changed: Any) -> Item:
    """A web service as the API describes it; a key of `serviceDetails` may be changed, too."""
    name = changed.get("name", f"service-{number}")
    details: Item = {
        "env": "docker",
        "runtime": "docker",
        "envSpecificDetails": {"dockerCommand": "", "dockerContext": ".", "dockerfilePath": "./Dockerfile"},
        "healthCheckPath": "/health",
        "maintenanceMode": {"enabled": False, "uri": ""},
        "numInstances": 1,
        "openPorts": [{"port": 10000, "protocol": "TCP"}],
        "plan": "starter",
        "region": "oregon",
        "maxShutdownDelaySeconds": 30,
        "url": f"https://{name}.onrender.com",
        "buildPlan": "starter",
        "previews": {"generation": "off"},
        "ipAllowList": [{"cidrBlock": "0.0.0.0/0", "description": "everywhere"}],
    }
    details |= {key: value for key, value in changed.items() if key in DETAILS}
    service: Item = {
        "id": f"srv-a{number}",
        "autoDeploy": "yes",
        "branch": "main",
        "createdAt": "2025-01-13T16:41:48.081145Z",
        "dashboardUrl": f"https://dashboard.render.com/web/srv-a{number}",
        "name": name,
        "notifyOnFail": "default",
        "ownerId": "tea-a",
        "repo": "https://github.com/example/app",
        "rootDir": "",
        "slug": name,
        "suspended": "not_suspended",
        "suspenders": [],
        "type": "web_service",
        "updatedAt": "2025-01-13T16:41:49Z",
        "serviceDetails": details,
    }
    return service | {key: value for key, value in changed.items() if key not in DETAILS}


DETAILS = {
    "plan",
    "region",
    "runtime",
    "env",
    "envSpecificDetails",
    "healthCheckPath",
    "numInstances",
    "disk",
    "autoscaling",
    "openPorts",
    "maxShutdownDelaySeconds",
    "schedule",
    "url",
}


def variables(**values: str) -> list[Item]:
    return [{"key": key, "value": value} for key, value in values.items()]


def group(number: int, created: str, links: list[str], **values: str) -> Item:
    return {
        "id": f"evg-a{number}",
        "name": f"group-{number}",
        "ownerId": "tea-a",
        "createdAt": created,
        "updatedAt": created,
        "serviceLinks": [{"id": each, "name": each, "type": "web"} for each in links],
        "envVars": variables(**values),
        "secretFiles": [],
    }


@contextlib.contextmanager
def served(fake: FakeRender) -> Iterator[str]:
    """The address of `fake` on loopback, as RENDER_HOST has it."""

    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            status, headers, body = fake.answer(self.path, self.headers.get("Authorization", ""))
            if fake.slow:
                over.wait(fake.slow.pop(0))
            if over.is_set():
                return
            head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            self.wfile.write(
                f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
                f"{head}\r\n".encode()
                + body
            )

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        over.set()
        server.shutdown()
        thread.join()
        server.server_close()
