"""Putting the API together, and serving it."""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import FrameType

import uvicorn
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware

from app import accounts, comments, files, health, logs, posts, reactions, stats
from app.envelope import Envelope
from app.errors import answer_errors
from app.services import Services
from app.settings import ConfigurationError, load

LARGEST_BODY = 1024 * 1024  # bytes
GRACE_SECONDS = 25  # for requests in flight after SIGTERM; platforms kill after 30


def create_app(services: Services) -> FastAPI:
    """The API over its services, which it starts and closes with itself."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with services.running():
            yield

    settings = services.settings
    app = FastAPI(
        title="Content Management API",
        version=services.build.version if services.build else "unknown",
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url="/docs" if settings.enable_docs else None,
        redoc_url=None,
        openapi_url="/openapi.json" if settings.enable_docs else None,
    )
    app.state.services = services
    answer_errors(app)
    if settings.enable_cors and settings.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.allowed_origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "X-Request-ID", "Range"],
            expose_headers=["X-Request-ID", "Location", "Retry-After", "Content-Range"],
        )
    # Not the framework's own setting, which would stand around the envelope; /files raises the limit for itself.
    app.add_middleware(RequestBodyLimitMiddleware, max_body_size=LARGEST_BODY)
    app.add_middleware(Envelope, metrics=services.metrics)  # the last one added is the outermost
    for module in (health, accounts, posts, comments, reactions, files, stats):
        app.include_router(module.router)
    return app


def run() -> None:
    """Serve until SIGTERM or Ctrl-C. Wrong variables: a line for each on standard error, exit code 2."""
    signal.signal(signal.SIGTERM, _leave)
    try:
        settings = load()
        logs.set_up(settings.log_level, settings.secrets())
        services = Services.of(settings)
        services.contents.prepare()
    except ConfigurationError as error:
        for problem in error.problems:
            sys.stderr.write(f"content-api cannot start: {problem}\n")
        raise SystemExit(2) from None
    uvicorn.run(
        create_app(services),
        host=settings.host,
        port=settings.port,
        log_config=None,  # the handlers are ours
        access_log=False,  # so are the lines of the requests
        server_header=False,
        proxy_headers=True,  # believed from FORWARDED_ALLOW_IPS alone, a variable of uvicorn's own
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


def _leave(_number: int, _frame: FrameType | None) -> None:
    """End with code 0 on SIGTERM.

    Uvicorn handles the signal while it serves and raises it again when it has finished; the first process of
    a container would not die of it, and elsewhere an orderly stop would look like a crash.
    """
    raise SystemExit(0)
