"""The lab's server process: Compute API, token endpoint and billing on loopback, the metadata server on the bridge.

`python -m rehost.lab.server NAME`, started by control.up. It holds a lock for as long as it lives, and the machines
run under it. SIGTERM ends it in order.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import secrets
import signal
import sys
from pathlib import Path
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rehost.lab import batch, compute, database, faults, lxcfs, metadata, mirror, network, store, trees
from rehost.lab.compute_errors import ApiError
from rehost.lab.control import CREDENTIALS, FAILURE, LOCK, RECORD, STAGE
from rehost.lab.disks import Disks
from rehost.lab.exchanges import Exchanges
from rehost.lab.fault_desk import Desk
from rehost.lab.faults import BILLING_METHOD
from rehost.lab.machine_faults import MachineFaults
from rehost.lab.machines import Machines
from rehost.lab.places import METADATA_PORT, Places
from rehost.lab.report import report
from rehost.lab.state import Cloud, Resource, timestamp
from rehost.lab.tokens import Issuer, TokenError
from rehost.lab.wire import VERBS, AccessLog, Broken, front_end_error, http_server, listening
from rehost.run.errors import RehostError, UsageError

log = logging.getLogger(__name__)

PATIENCE = 0.5  # seconds for the programs beside the machines: what they hold goes with the lab anyway


# -- the API's application ---------------------------------------------------------------------------------


def api_app(
    api: compute.Api,
    control_token: str,
    access: AccessLog,
    exchanges: Exchanges | None = None,
    machine_faults: MachineFaults | None = None,
) -> Starlette:
    """Everything on the loopback port. `exchanges` gets a copy of all that is said to the Compute API."""
    project = api.cloud.project
    desk = Desk(api.faults, machine_faults)

    async def asked(call: compute.Request, agent: str) -> compute.Answer:
        answer = await api.answer(call)
        if exchanges is not None:
            exchanges.write(
                agent=agent, verb=call.verb, path=call.path, query=call.query, request=call.body,
                status=answer.status, answer=answer.body, wire=answer.wire,
            )  # fmt: skip
        return answer

    async def computed(request: Request) -> Response:
        call = compute.Request(
            request.method,
            request.path_params["rest"].rstrip("/"),
            dict(request.query_params),
            await request.body(),
            _bearer(request),
        )
        answer = await asked(call, request.headers.get("user-agent", ""))
        if answer.wire:
            return _broken(answer.wire, answer.body)
        if answer.status == 204:
            return Response(status_code=204)
        return JSONResponse(answer.body, answer.status)

    async def batched(request: Request) -> Response:
        try:
            api.check_bearer(_bearer(request))
            parts = batch.parse(request.headers.get("content-type", ""), await request.body())
        except ApiError as error:
            return JSONResponse(error.body(), error.status)
        answers = []
        for part in parts:
            bearer = part.bearer or _bearer(request)
            call = compute.Request(part.verb, part.path, part.query, part.body, bearer)
            answer = await asked(call, request.headers.get("user-agent", ""))
            if answer.wire:
                return _broken(answer.wire, answer.body)
            answers.append((part.id, answer.status, answer.body))
        kind, body = batch.answer(answers)
        return Response(body, media_type=kind)

    async def token(request: Request) -> Response:
        form = dict(parse_qsl((await request.body()).decode(errors="replace")))
        try:
            return JSONResponse(api.issuer.exchange(form, str(request.url)))
        except TokenError as error:
            return JSONResponse(error.body(), 400)

    async def billing(request: Request) -> Response:
        try:
            api.check_bearer(_bearer(request))
            order = api.faults.take(BILLING_METHOD)
            fault = order.fault if order else None
            if fault in faults.IN_ANSWER:
                raise faults.answer(fault, project, api.cloud.number, request.path_params["project"])
        except ApiError as error:
            return JSONResponse(error.body(), error.status)
        body = compute.billing_info(project)
        return _broken(fault, body) if fault else JSONResponse(body)

    async def control(request: Request) -> Response:
        if not secrets.compare_digest(_bearer(request) or "", control_token):
            return JSONResponse({"what": "this path is for the lab's own commands"}, 403)
        cleared = 0
        try:
            if request.method == "POST":
                await desk.order(await request.json())
            elif request.method == "DELETE":
                cleared = await desk.clear(await request.json())
        except RehostError as error:
            status = 400 if isinstance(error, UsageError) else 409
            return JSONResponse({"what": error.what, "cure": error.cure, "detail": error.detail}, status)
        return JSONResponse({**report(api.cloud), "faults": desk.listed(), "cleared": cleared})

    return Starlette(
        routes=[
            Route("/compute/v1/{rest:path}", access.wrap(computed), methods=VERBS),
            *(Route(path, access.wrap(batched), methods=["POST"]) for path in batch.PATHS),
            Route("/token", access.wrap(token), methods=["POST"]),
            Route("/v1/projects/{project}/billingInfo", access.wrap(billing), methods=["GET"]),
            Route("/lab/v1/control", access.wrap(control), methods=VERBS),
        ]
    )


def _broken(wire: str, body: Resource) -> Response:
    """What a fault on the wire leaves of an answer."""
    return front_end_error() if wire == "502" else Broken(wire, json.dumps(body).encode())


def _bearer(request: Request) -> str | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


# -- the metadata server's application ---------------------------------------------------------------------


def metadata_app(cloud: Cloud, access: AccessLog, harm: metadata.Harm | None = None) -> Starlette:
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
        answer = await metadata.answer(cloud, asked, harm)
        headers = {"Metadata-Flavor": "Google", "Server": "Metadata Server for VM", **answer.headers}
        return Response(answer.text, answer.status, headers, media_type=answer.kind)

    return Starlette(routes=[Route("/{rest:path}", access.wrap(told), methods=VERBS)])


# -- the process -------------------------------------------------------------------------------------------


def project_of(name: str) -> str:
    """The project's id, 6 to 30 characters as Google wants."""
    return f"lab-{name}"[:30].rstrip("-")


async def serve(places: Places) -> None:
    """Brings the lab up, serves until SIGTERM or SIGINT, and ends what it started."""
    ending = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ending.set)
    stage(places, "the block store")
    await asyncio.to_thread(store.start, places)
    # The copy that takes time: nobody waits for it but the first machine.
    copying = asyncio.create_task(
        asyncio.to_thread(store.taken_in, places, "public/debian-12", trees.base_disk())
    )
    stage(places, "the network")
    await asyncio.to_thread(network.up, places)
    shown = await asyncio.to_thread(lxcfs.start, places)
    stage(places, "the image mirror")
    images = await asyncio.to_thread(mirror.start, places)
    stage(places, "the database")
    data = await asyncio.to_thread(database.start, places)
    stage(places, "the API")
    issuer = Issuer(project_of(places.name))
    api, machines = _empty_cloud(places, issuer)
    harm = MachineFaults(places, api.cloud, machines, api.preempt)
    logs = [AccessLog(places.log("api")), AccessLog(places.log("metadata"))]
    exchanges = Exchanges.asked_for()
    control_token = secrets.token_urlsafe(32)
    doors = [
        (http_server(api_app(api, control_token, logs[0], exchanges, harm)), listening("127.0.0.1")),
        (http_server(metadata_app(api.cloud, logs[1], harm)), listening(places.gateway, METADATA_PORT)),
    ]
    port = doors[0][1].getsockname()[1]
    tasks = [asyncio.create_task(door.serve(sockets=[sock])) for door, sock in doors]
    settling = asyncio.gather(harm.run(), api.schedules.run())
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
        "since": timestamp(),
    }
    write_private(places.state / RECORD, json.dumps(record))
    waiting = asyncio.create_task(ending.wait())
    try:
        await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
    finally:
        (places.state / RECORD).unlink(missing_ok=True)
        for door, _ in doors:
            door.should_exit = True
        settling.cancel()
        await asyncio.gather(settling, return_exceptions=True)
        await harm.close()
        await api.operations.close()
        await machines.close()
        await asyncio.gather(*tasks, return_exceptions=True)
        waiting.cancel()
        await asyncio.gather(copying, return_exceptions=True)  # the first machine was told of a failure
        programs = [program for program in (images, data, shown) if program]
        await asyncio.gather(*(asyncio.to_thread(program.stop, PATIENCE) for program in programs))
        for one in logs:
            one.close()
        if exchanges is not None:
            exchanges.close()


def _empty_cloud(places: Places, issuer: Issuer) -> tuple[compute.Api, Machines]:
    def machine_ended(name: str) -> None:
        api.machine_ended(name)

    machines = Machines(places, machine_ended)
    cloud = Cloud(
        project=issuer.project,
        account=issuer.email,
        subnet=str(places.subnet),
        gateway=places.gateway,
        internal=places.internal_addresses,
        external=places.external_addresses,
        machines=machines,
        disks=Disks(places),
    )
    api = compute.Api(cloud, issuer)
    return api, machines


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
