"""What a request may use: made once at start, closed at the end, handed to routes as a dependency."""

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
from app.database import Database
from app.settings import Settings


@dataclass(frozen=True)
class Services:
    """The process's settings, clients and build."""

    settings: Settings
    database: Database
    cache: Cache
    build: Build | None
    started: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, settings: Settings) -> Services:
        """Make the clients, without connecting. Raises ConfigurationError."""
        redis_url = settings.redis_url
        return cls(
            settings=settings,
            database=Database(
                settings.mongodb_url.get_secret_value(), settings.database_name, settings.collections
            ),
            cache=Cache(redis_url.get_secret_value() if redis_url else None),
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
