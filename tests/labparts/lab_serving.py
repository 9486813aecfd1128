"""The lab's own HTTP server on a real socket, for tests of what goes over the wire."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from lab_fake import Lab
from rehost.lab import server, wire
from rehost.lab.exchanges import Exchanges


@contextlib.asynccontextmanager
async def serving(lab: Lab, directory: Path, exchanges: Exchanges | None = None) -> AsyncIterator[str]:
    """Gives its URL; the port is a free one."""
    access = wire.AccessLog(directory / "api.log")
    door = wire.http_server(server.api_app(lab.api, "control", access, exchanges))
    sock = wire.listening("127.0.0.1")
    task = asyncio.create_task(door.serve(sockets=[sock]))
    try:
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"
    finally:
        door.should_exit = True
        await task
        await lab.api.operations.close()
        access.close()
