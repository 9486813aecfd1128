"""What the request handlers work with: made once at start, handed to the routes as a dependency."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from app.build import Build, read_build
from app.cache import Cache
from app.contents import Contents
from app.database import Database
from app.login_limit import LoginLimit
from app.metrics import Metrics
from app.passwords import Passwords
from app.settings import Settings
from app.tokens import TokenMaker


@dataclass(frozen=True)
class Services:
    """The process's settings, clients, build and counters."""

    settings: Settings
    database: Database
    cache: Cache
    contents: Contents
    tokens: TokenMaker
    metrics: Metrics
    build: Build | None
    passwords: Passwords = field(default_factory=Passwords)
    login_limit: LoginLimit = field(default_factory=LoginLimit)
    started: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, settings: Settings) -> Services:
        """Make the clients, without connecting. Raises ConfigurationError."""
        redis_url = settings.redis_url
        metrics = Metrics()
        return cls(
            settings=settings,
            database=Database(
                settings.mongodb_url.get_secret_value(), settings.database_name, settings.collections
            ),
            cache=Cache(redis_url.get_secret_value() if redis_url else None, metrics),
            contents=Contents(settings.data_directory),
            tokens=TokenMaker(settings.secret_key.get_secret_value()),
            metrics=metrics,
            build=read_build(),
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Prepare the database beside the first requests; close everything at the end."""
        self.cache.warn_if_absent()
        preparing = asyncio.create_task(self.database.prepare())
        try:
            yield
        finally:
            preparing.cancel()
            with suppress(asyncio.CancelledError):
                await preparing
            await self.cache.close()
            await self.database.close()


def _of_request(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


FromApp = Annotated[Services, Depends(_of_request)]
