"""What operators and proxies ask: who is there, is it healthy, which build is it."""

from __future__ import annotations

import asyncio
import time
from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel

from app.build import Build
from app.cache import CacheStatus
from app.contents import LEFT_FREE_BYTES
from app.services import FromApp, Services

router = APIRouter(tags=["operations"])

_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


class Greeting(BaseModel):
    """The answer at the root."""

    message: str
    status: str


class DatabaseHealth(BaseModel):
    """Whether the database answers, and whether its indexes are made."""

    status: Literal["ok", "lost"]
    indexes: Literal["ready", "pending"]


class CacheHealth(BaseModel):
    """Whether there is a cache, and whether it answers. Never a reason to be unhealthy."""

    status: CacheStatus


class DiskHealth(BaseModel):
    """The disk of the data directory. Low space ends uploads, and is no reason to be unhealthy."""

    status: Literal["ok", "low", "lost"]
    free_bytes: int


class Health(BaseModel):
    """The whole answer; "failing" goes with 503."""

    status: Literal["ok", "failing"]
    database: DatabaseHealth
    cache: CacheHealth
    disk: DiskHealth


class Status(BaseModel):
    """What runs, and since when."""

    build: Build | None
    environment: str
    uptime_seconds: float


@router.get("/")
async def root() -> Greeting:
    """Say that the API is there."""
    return Greeting(message="Content Management API", status="running")


@router.get("/health", responses={503: {"model": Health, "description": "The database does not serve."}})
async def health(services: FromApp, response: Response) -> Health:
    """Ask the database and the cache now. 503 when the database does not answer or has no indexes yet."""
    reachable, cache = await asyncio.gather(services.database.ping(), services.cache.status())
    serving = reachable and services.database.prepared
    if not serving:
        response.status_code = 503
    response.headers["Cache-Control"] = "no-store"
    return Health(
        status="ok" if serving else "failing",
        database=DatabaseHealth(
            status="ok" if reachable else "lost",
            indexes="ready" if services.database.prepared else "pending",
        ),
        cache=CacheHealth(status=cache),
        disk=_disk(services),
    )


@router.get("/metrics", response_class=Response, responses={200: {"content": {_PROMETHEUS: {}}}})
async def metrics(services: FromApp) -> Response:
    """Show the counters of this process, for Prometheus."""
    return Response(services.metrics.text(), media_type=_PROMETHEUS)


def _disk(services: Services) -> DiskHealth:
    try:
        free = services.contents.free_bytes()
    except OSError:
        return DiskHealth(status="lost", free_bytes=0)
    return DiskHealth(status="ok" if free >= LEFT_FREE_BYTES else "low", free_bytes=free)


@router.get("/status")
async def status(services: FromApp) -> Status:
    """Say which build runs. `build` is null when the image came without its `.content-api.json`."""
    return Status(
        build=services.build,
        environment=services.settings.environment,
        uptime_seconds=round(time.monotonic() - services.started, 1),
    )
