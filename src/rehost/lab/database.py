"""The rehearsal's MongoDB: nx-27017, a server of MongoDB's wire protocol over SQLite. It is not MongoDB itself:
no authentication, no Decimal128, no updates given as a pipeline.
"""

from __future__ import annotations

import sys
from pathlib import Path

from rehost.lab.places import Places
from rehost.lab.programs import Service, found, free_port, start_service
from rehost.run.errors import RehostError

PORT = 27017


def program() -> Path | None:
    """The server, installed beside this Python or on PATH."""
    beside = Path(sys.executable).parent / "nx-27017"
    if beside.exists():
        return beside
    elsewhere = found("nx-27017")
    return Path(elsewhere) if elsewhere else None


def start(places: Places) -> Service:
    """Starts the database on the gateway, as machines reach it; its data goes with the lab.

    The port is 27017, or a free one where that is taken. Raises RehostError with its last lines.
    """
    server = program()
    if server is None:
        raise RehostError("nx-27017 is not installed", cure="`pip install '.[lab]'` brings it.")
    data = places.state / "database"
    data.mkdir(exist_ok=True)
    port = free_port(places.gateway, PORT)
    return start_service(
        places,
        "database",
        [server, "--data-dir", data, "--host", places.gateway, "-p", str(port),
         "--log-file", data / "nx.log", "--pid-file", data / "nx.pid"],
        address=places.gateway,
        port=port,
    )  # fmt: skip


def url(service: Service) -> str:
    return f"mongodb://{service.address}:{service.port}"
