"""The lab's server process: Compute API, token endpoint and billing on loopback, the metadata server on the bridge.

`python -m rehost.lab.server NAME`, started by control.up. It holds a lock for as long as it lives, and the machines
run under it. SIGTERM ends it in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import secrets
import signal
import socket
import struct
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qsl

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from rehost.lab import compute, database, faults, lxcfs, metadata, mirror, network
from rehost.lab.compute_errors import ApiError
from rehost.lab.compute_power import external
from rehost.lab.control import CREDENTIALS, FAILURE, LOCK, RECORD, STAGE
from rehost.lab.faults import BILLING_METHOD, Order
from rehost.lab.growth import GrowingMachines
from rehost.lab.places import METADATA_PORT, Places
from rehost.lab.state import Cloud, timestamp
from rehost.lab.tokens import Issuer, TokenError
from rehost.run.errors import RehostError, UsageError

log = logging.getLogger(__name__)

SHUTDOWN_GRACE = 1  # seconds that open requests get
PATIENCE = 0.5  # seconds for the programs beside the machines: what they hold goes with the lab anyway
Endpoint = Callable[[Request], Awaitable[Response]]


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


# -- the API's application ---------------------------------------------------------------------------------


def api_app(api: compute.Api, control_token: str, access: AccessLog) -> Starlette:
    """Everything on the loopback port."""
    project = api.cloud.project

    async def computed(request: Request) -> Response:
        asked = compute.Request(
            request.method,
            request.path_params["rest"].rstrip("/"),
            dict(request.query_params),
            await request.body(),
            _bearer(request),
        )
        answer = await api.answer(asked)
        if answer.wire == "502":
            return _front_end_error()
        if answer.wire:
            return Broken(answer.wire, json.dumps(answer.body).encode())
        return JSONResponse(answer.body, answer.status)

    async def token(request: Request) -> Response:
        form = dict(parse_qsl((await request.body()).decode(errors="replace")))
        try:
            return JSONResponse(api.issuer.exchange(form, str(request.url)))
        except TokenError as error:
            return JSONResponse(error.body(), 400)

    async def billing(request: Request) -> Response:
        try:
            api.check_bearer(_bearer(request))
            fault = api.faults.take(BILLING_METHOD)
            if fault in faults.IN_ANSWER:
                raise faults.answer(fault, project, api.cloud.number, request.path_params["project"])
        except ApiError as error:
            return JSONResponse(error.body(), error.status)
        if fault == "502":
            return _front_end_error()
        body = compute.billing_info(project)
        return Broken(fault, json.dumps(body).encode()) if fault else JSONResponse(body)

    async def control(request: Request) -> Response:
        if not secrets.compare_digest(_bearer(request) or "", control_token):
            return JSONResponse({"what": "this path is for the lab's own commands"}, 403)
        if request.method == "GET":
            return JSONResponse(_status(api))
        if request.method == "DELETE":
            api.faults.clear()
        else:
            wanted = await request.json()
            try:
                api.faults.order(wanted["method"], wanted["fault"], int(wanted["times"]))
            except UsageError as error:
                return JSONResponse({"what": error.what, "cure": error.cure}, 400)
        return JSONResponse(_status(api))

    verbs = ["GET", "POST", "PUT", "PATCH", "DELETE"]
    return Starlette(
        routes=[
            Route("/compute/v1/{rest:path}", access.wrap(computed), methods=verbs),
            Route("/token", access.wrap(token), methods=["POST"]),
            Route("/v1/projects/{project}/billingInfo", access.wrap(billing), methods=["GET"]),
            Route("/lab/v1/control", access.wrap(control), methods=verbs),
        ]
    )


def _bearer(request: Request) -> str | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def _front_end_error() -> Response:
    """What stands before Google's servers answers in HTML."""
    text = "<!DOCTYPE html><html lang=en><title>Error 502 (Server Error)!!1</title><p>That's an error.</html>"
    return HTMLResponse(text, 502)


def _status(api: compute.Api) -> dict[str, Any]:
    return {
        "instances": [
            {
                "name": instance["name"],
                "zone": path.split("/")[3],
                "status": instance["status"],
                "machine_type": instance["machineType"].rsplit("/", 1)[1],
                "internal": instance["networkInterfaces"][0]["networkIP"],
                "external": external(instance),
            }
            for path, instance in api.cloud.everywhere("instances")
        ],
        "faults": [_order(order) for order in api.faults.orders],
    }


def _order(order: Order) -> dict[str, Any]:
    return {"method": order.method, "fault": order.fault, "times": order.times}


# -- the metadata server's application ---------------------------------------------------------------------


def metadata_app(cloud: Cloud, access: AccessLog) -> Starlette:
    """What machines meet at 169.254.169.254."""

    async def told(request: Request) -> Response:
        asked = metadata.Asked(
            request.method,
            request.scope["path"],
            dict(request.query_params),
            dict(request.headers),
            request.client.host if request.client else "",
            await request.body(),
        )
        answer = await metadata.answer(cloud, asked)
        headers = {"Metadata-Flavor": "Google", "Server": "Metadata Server for VM", **answer.headers}
        return Response(answer.text, answer.status, headers, media_type=answer.kind)

    verbs = ["GET", "POST", "PUT", "PATCH", "DELETE"]
    return Starlette(routes=[Route("/{rest:path}", access.wrap(told), methods=verbs)])


# -- the process -------------------------------------------------------------------------------------------


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


def project_of(name: str) -> str:
    """The project's id, 6 to 30 characters as Google wants."""
    return f"lab-{name}"[:30].rstrip("-")


async def serve(places: Places) -> None:
    """Brings the lab up, serves until SIGTERM or SIGINT, and ends what it started."""
    ending = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ending.set)
    stage(places, "the network")
    await asyncio.to_thread(network.up, places)
    shown = await asyncio.to_thread(lxcfs.start, places)
    stage(places, "the image mirror")
    images = await asyncio.to_thread(mirror.start, places)
    stage(places, "the database")
    data = await asyncio.to_thread(database.start, places)
    stage(places, "the API")

    def machine_ended(name: str) -> None:
        api.machine_ended(name)

    machines = GrowingMachines(places, machine_ended)
    issuer = Issuer(project_of(places.name))
    cloud = Cloud(
        project=issuer.project,
        account=issuer.email,
        subnet=str(places.subnet),
        gateway=places.gateway,
        internal=places.internal_addresses,
        external=places.external_addresses,
        machines=machines,
    )
    api = compute.Api(cloud, issuer)
    logs = [AccessLog(places.log("api")), AccessLog(places.log("metadata"))]
    control_token = secrets.token_urlsafe(32)
    doors = [
        (http_server(api_app(api, control_token, logs[0])), listening("127.0.0.1")),
        (http_server(metadata_app(cloud, logs[1])), listening(places.gateway, METADATA_PORT)),
    ]
    port = doors[0][1].getsockname()[1]
    tasks = [asyncio.create_task(door.serve(sockets=[sock])) for door, sock in doors]
    write_private(
        places.state / CREDENTIALS,
        json.dumps(issuer.service_account(f"http://127.0.0.1:{port}/token"), indent=2),
    )
    record = {
        "pid": os.getpid(),
        "port": port,
        "control_token": control_token,
        "project": issuer.project,
        "gateway": places.gateway,
        "database": database.url(data),
        "image": mirror.kind(places),
    }
    write_private(places.state / RECORD, json.dumps(record))
    waiting = asyncio.create_task(ending.wait())
    try:
        await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
    finally:
        (places.state / RECORD).unlink(missing_ok=True)
        for door, _ in doors:
            door.should_exit = True
        await api.operations.close()
        await machines.close()
        await asyncio.gather(*tasks, return_exceptions=True)
        waiting.cancel()
        programs = [program for program in (images, data, shown) if program]
        await asyncio.gather(*(asyncio.to_thread(program.stop, PATIENCE) for program in programs))
        for one in logs:
            one.close()


def stage(places: Places, text: str) -> None:
    write_private(places.state / STAGE, text)


def write_private(path: Path, text: str) -> None:
    """0600 from its first byte, and whole or not at all."""
    half = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    half.replace(path)


def main(argv: list[str]) -> int:
    """One lab's server; 1 when it could not come up, with the reason in the file FAILURE."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    places = Places.of(argv[0])
    with (places.state / LOCK).open("a") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.warning("the server of this lab runs already")
            return 1
        try:
            asyncio.run(serve(places))
        except RehostError as error:
            log.exception("not up")
            reason = {"what": error.what, "cure": error.cure, "detail": error.detail}
            write_private(places.state / FAILURE, json.dumps(reason))
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
