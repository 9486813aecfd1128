"""The HTTP of the lab's server: uvicorn as the lab wants it, answers that break on order, one log line a request."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import ClassVar

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from rehost.lab.state import timestamp

SHUTDOWN_GRACE = 1  # seconds that open requests get
Endpoint = Callable[[Request], Awaitable[Response]]
VERBS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


class Protocol(H11Protocol):
    """uvicorn's HTTP, which remembers the connections, so that a fault can break one."""

    open: ClassVar[dict[tuple[str, int], asyncio.Transport]] = {}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.open[transport.get_extra_info("peername")[:2]] = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.open.pop(self.transport.get_extra_info("peername")[:2], None)
        super().connection_lost(exc)


class Broken(Response):
    """An answer that the client does not get whole: faults.ON_WIRE."""

    def __init__(self, how: str, body: bytes) -> None:
        super().__init__(body, media_type="application/json")
        self.how = how

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        transport = Protocol.open[tuple(scope["client"])]
        if self.how == "truncated":
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            half = bytes(self.body)[: len(self.body) // 2]
            await send({"type": "http.response.body", "body": half, "more_body": True})
            transport.close()
        elif self.how in ("reset", "lost"):
            # Closing with a linger time of 0 sends RST (socket(7), SO_LINGER).
            pair = struct.pack("ii", 1, 0)
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, pair)
            transport.abort()
        # Otherwise it hangs: wait for the client to give up.
        while (await receive())["type"] != "http.disconnect":
            pass


def front_end_error() -> Response:
    """What stands before Google's servers answers in HTML."""
    text = "<!DOCTYPE html><html lang=en><title>Error 502 (Server Error)!!1</title><p>That's an error.</html>"
    return HTMLResponse(text, 502)


class AccessLog:
    """One line a request: when, method, path, status, milliseconds. No query, header or body: they hold secrets."""

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file = file.open("a", buffering=1)

    def wrap(self, endpoint: Endpoint) -> Endpoint:
        async def logged(request: Request) -> Response:
            began = time.monotonic()
            answer = await endpoint(request)
            took = (time.monotonic() - began) * 1000
            how = getattr(answer, "how", answer.status_code)
            self._file.write(f"{timestamp()} {request.method} {request.url.path} {how} {took:.0f} ms\n")
            return answer

        return logged

    def close(self) -> None:
        self._file.close()


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are for the process as a whole, which has two of these."""
        yield


def http_server(app: Starlette) -> uvicorn.Server:
    """uvicorn as the lab wants it; serve it with a bound socket."""
    return _Server(
        uvicorn.Config(
            app,
            http=Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=120,
            timeout_graceful_shutdown=SHUTDOWN_GRACE,
        )
    )


def listening(address: str, port: int = 0) -> socket.socket:
    """A socket that listens; port 0 takes a free one."""
    made = socket.create_server((address, port), backlog=128)
    made.setblocking(False)
    return made
